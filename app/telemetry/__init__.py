"""Metrics and log lines. Knows nothing of what they are about."""
