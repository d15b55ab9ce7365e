"""Gymnasium's environments and their spaces."""
