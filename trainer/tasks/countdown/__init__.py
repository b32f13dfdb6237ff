"""Countdown: reach a number from given ones, by a formula alone or with a chain of thought."""
