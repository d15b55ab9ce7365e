"""The page in which trained models run, and their attention is seen and cut."""
