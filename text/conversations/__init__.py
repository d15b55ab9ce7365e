"""Conversations: how files hold them, how a template writes them down, and how several share a row."""
