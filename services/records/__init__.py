"""What a run leaves a record of: steps, sampled rollouts, applied groups."""
