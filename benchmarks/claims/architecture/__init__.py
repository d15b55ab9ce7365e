"""Claims on what makes a Transformer one: attention, heads, positions, sums, norms, and what they replaced."""
