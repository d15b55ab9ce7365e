"""What an image model is asked to do."""
