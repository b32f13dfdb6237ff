"""Checks of a configuration before its run starts (`scope doctor`), and an estimate of what the run needs."""
