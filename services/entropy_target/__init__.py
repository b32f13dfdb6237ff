"""The entropy target in Redis: the desired state, the target in force, and their history."""
