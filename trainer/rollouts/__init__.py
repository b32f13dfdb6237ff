"""Rollouts before the loss: problems in order, prompts, trajectories, rewards and advantages, batches."""
