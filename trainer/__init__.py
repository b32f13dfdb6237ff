"""Learning: tensors, trajectories, losses and control laws. Knows nothing of Ray actors, Redis or HTTP."""
