"""A few weights that are learned beside those of a trained model, which stay as they are."""
