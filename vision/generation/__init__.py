"""How images are drawn: paths from noise to images, and the ways along them."""
