"""Text models: embedding, core, head."""
