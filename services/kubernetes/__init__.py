"""Runs on Kubernetes: the objects of a run, and a port-forward to its control plane."""
