"""One training step of each panel, ours and the peers'."""
