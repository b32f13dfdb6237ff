"""One run: its id, its state and requests in Redis, its heartbeats, its directory."""
