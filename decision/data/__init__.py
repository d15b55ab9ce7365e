"""Trajectories: where they come from, how they are stored, the windows that a model reads."""
