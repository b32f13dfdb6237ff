"""Rollouts before the loss: problem order, prompts, trajectories, rewards and advantages, batches."""
