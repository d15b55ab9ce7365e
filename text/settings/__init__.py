"""What the runs of each task can be told: one room for every kind of data."""
