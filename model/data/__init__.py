"""Folders of images -> batches."""
