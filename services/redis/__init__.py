"""Redis: connections, the embedded server, key names, batched reads, Lua scripts, fencing, idempotency keys."""
