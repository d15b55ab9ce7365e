"""Trained models put to use: texts in, what the task makes of them out."""
