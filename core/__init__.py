"""The core: tokens, where they are, and who may listen to whom. Knows nothing of text, pixels or rewards."""
