"""The core: tokens, where they are, and which attends to which. It has no notion of text, pixels or rewards."""
