"""Public weights in timm's layout, and models brought to another size."""
