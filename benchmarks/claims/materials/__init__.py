"""What several claims, or one, learn from, and measures of their own."""
