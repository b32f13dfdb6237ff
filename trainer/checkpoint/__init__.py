"""Checkpoints of the learner: written, verified, mirrored, read on another number of ranks."""
