"""Weight transfer from the learner to the generators: serialization, broadcast, publication."""
