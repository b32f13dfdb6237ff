"""Recorded runs: run directories and archives of them, shown without the control plane of the run (`scope view`)."""
