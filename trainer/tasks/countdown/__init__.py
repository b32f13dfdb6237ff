"""Countdown: reach a target from given numbers, with an expression alone or after a chain of thought."""
