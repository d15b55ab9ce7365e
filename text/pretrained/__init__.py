"""Public families of models in and out."""
