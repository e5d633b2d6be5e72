"""What a model does on a dataset, and the report of it."""
