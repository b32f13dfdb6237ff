"""The learner on Ray Train: the fourth box of the picture.

Reads the queue and the entropy target, drives `trainer.learner.learner`.
"""
