"""Public weights in timm's layout, and models resized."""
