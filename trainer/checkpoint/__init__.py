"""Checkpoints of the learner: snapshots, the verified store, the mirror, conversion to other numbers of ranks."""
