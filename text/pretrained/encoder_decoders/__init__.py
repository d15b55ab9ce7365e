"""Public families of encoder-decoders."""
