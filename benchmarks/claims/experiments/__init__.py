"""One file a claim: its hypothesis, what is measured, and what would have to come out."""
