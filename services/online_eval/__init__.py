"""Held-out evaluation during training, by generators that have no group to make."""
