"""Decoders that could stand in for Pillow, against the service's own path."""
