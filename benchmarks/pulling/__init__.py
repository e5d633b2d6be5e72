"""From nothing to an answering service: `python -m benchmarks.pulling`."""
