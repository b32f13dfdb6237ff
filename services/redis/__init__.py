"""Redis: how it is reached, the embedded server, keys, and what protocols on it share."""
