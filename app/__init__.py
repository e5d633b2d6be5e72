"""The HTTP service. No torch anywhere in it."""
