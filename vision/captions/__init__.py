"""Images with a sentence each in place of a class."""
