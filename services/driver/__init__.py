"""The driver: one process that owns a run — its Redis, its Ray actors, its start, health and orderly stop."""
