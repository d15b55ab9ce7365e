"""The vision panel: images as tokens, over the same core as `text` and `decision`."""
