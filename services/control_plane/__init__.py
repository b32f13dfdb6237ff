"""The control plane: REST over the run's documents in Redis. `app.create_app` builds it."""
