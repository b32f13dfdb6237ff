"""The entropy target in Redis: what is wanted, what is in force, and its history."""
