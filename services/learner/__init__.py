"""The learner on Ray Train: the loop of every rank, and what rank 0 does besides.

Reads the queue and the set-point, drives `trainer.learner.learner`.
"""
