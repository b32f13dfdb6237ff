"""What every request passes: authentication, limits, conditions, problem bodies, headers."""
