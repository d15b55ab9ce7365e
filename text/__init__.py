"""The text panel: text becomes tokens, the core passes messages between them, the next token is read back."""
