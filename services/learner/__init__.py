"""The learner on Ray Train: the loop of every rank, and what rank 0 does besides.

Reads the queue and the entropy target, drives `trainer.learner.learner`.
"""
