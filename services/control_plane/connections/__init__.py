"""The connections of clients: how many there are, how large a request is and how long it takes to arrive."""
