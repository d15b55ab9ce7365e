"""The decision panel: trajectories as tokens. Empty for now; it comes after `vision`, over the same core."""
