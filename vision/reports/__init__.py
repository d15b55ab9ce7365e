"""What an evaluation shows: figures, tables, pictures."""
