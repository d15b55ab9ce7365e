"""One set of weights for text, images and control, and specialists of the same shape beside it."""
