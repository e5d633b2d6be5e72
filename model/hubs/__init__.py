"""Public weights: what their names mean, where their files are, and the files fetched. Knows no tensors."""
