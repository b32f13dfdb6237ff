"""The output head: log-probabilities and entropies of large vocabularies, and their gradients."""
