"""Decision models: embedding, core, head."""
