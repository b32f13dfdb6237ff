"""Generators: lease groups, sample and score them, offer them to the replay queue."""
