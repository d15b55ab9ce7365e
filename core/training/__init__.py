"""The mechanics of a training loop: run, state, folder, checkpoints, data order, metrics, progress."""
