"""The request and response bodies of the control plane."""
