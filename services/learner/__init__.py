"""The learner on Ray Train: the fourth box of the picture.

Reads the queue and the set-point, drives `trainer.learner.learner`.
"""
