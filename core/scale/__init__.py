"""Models that outgrow a device: activations computed again, weights and checkpoints in shards, and what a run needs."""
