"""Generators: they lease groups, sample and score their rollouts, and add them to the replay queue."""
