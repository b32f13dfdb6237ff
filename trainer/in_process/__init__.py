"""A run in one process, without Ray, vLLM and Redis: the same loss, learner, control law and task."""
