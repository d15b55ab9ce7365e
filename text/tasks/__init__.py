"""What a text model is trained to do."""
