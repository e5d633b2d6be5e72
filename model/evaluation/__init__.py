"""The metrics of a model on a dataset, and their report."""
