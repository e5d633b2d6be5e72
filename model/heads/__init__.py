"""Heads on a frozen network: its embeddings computed once, and a classifier fitted to them."""
