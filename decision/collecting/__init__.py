"""Recording episodes of agents."""
