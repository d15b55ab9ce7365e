"""The demo and its page."""
