"""Problems from data sets: reading rows, removing duplicates, verifying answers."""
