"""Image models: embedding, core, head."""
