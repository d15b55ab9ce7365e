"""Every claim of a lecture on Transformers as an experiment: hypothesis first, several seeds, a verdict."""
