"""A run on Kubernetes: its objects, and a way to its control plane."""
