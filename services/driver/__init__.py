"""The driver: the process that starts a run, supervises its Redis, generators and learner, and stops it in order."""
