"""One run: its name, its state and requests in Redis, its directory."""
