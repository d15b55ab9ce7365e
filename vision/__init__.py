"""The vision panel: images as tokens. Empty for now; it comes next, over the same core as `text`."""
