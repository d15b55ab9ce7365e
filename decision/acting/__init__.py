"""Acting in environments with a model."""
