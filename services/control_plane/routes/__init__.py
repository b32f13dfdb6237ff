"""The routes of the control plane, one module for each resource."""
