"""The learner on Ray Train: reads the queue and the entropy target, drives `trainer.learner`, publishes and commits."""
