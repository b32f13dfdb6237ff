"""Answers labelled by hand, by kind: (reference answer, answer), right ones and wrong ones."""
