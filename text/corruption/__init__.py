"""What is hidden from a model that learns to fill it in: single tokens, or spans."""
