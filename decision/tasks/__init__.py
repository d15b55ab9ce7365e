"""What a decision model is trained to do."""
