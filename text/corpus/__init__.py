"""Where text comes from and how it becomes arrays of tokens."""
