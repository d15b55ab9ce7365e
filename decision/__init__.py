"""The decision panel: trajectories as tokens, over the same core."""
