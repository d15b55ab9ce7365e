"""Decoding: a cache, a window over it, rules for the next token, one generator, beam search."""
