"""Checks and measurements that need a GPU: what benchmarks/gpu.py runs. A module for each section."""
