"""Held-out evaluation during training, sampled by generators that have no group to make."""
