"""Texts one by one: pairs, labelled texts, and sentences with a tag for each word."""
