"""This service against the bare ceiling and its peers: `python -m benchmarks.serving`, or scripts/bench."""
