"""Problems from data sets: rows read, told apart, and answers verified."""
