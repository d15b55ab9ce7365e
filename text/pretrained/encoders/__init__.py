"""Encoders: BERT and those after it, with the head that a folder has."""
