"""Claims on what a Transformer learns, from how much, and what for."""
