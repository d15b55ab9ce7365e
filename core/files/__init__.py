"""Files that are whole or absent: atomic writes, JSON, tensors, weights of other layouts, downloads."""
