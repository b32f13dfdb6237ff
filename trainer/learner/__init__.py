"""The learner: DeepSpeed ZeRO over micro-batches of a step's groups."""
