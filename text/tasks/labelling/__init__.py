"""Giving labels: to texts, and to the words of sentences."""
