"""A run in a single process, without Ray, vLLM and Redis, with the same learner, loss, control law and task."""
