"""The documents that the control plane takes and gives."""
