"""Causal language models: GPT-2, and Llama with what is built like it."""
