"""The output head: log-probabilities and entropy of tokens over large vocabularies, with their gradients."""
