"""Weight transfer from the learner to the generators: publication, serialization, broadcast."""
