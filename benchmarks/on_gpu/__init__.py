"""Checks and measurements that need a GPU: the sections that benchmarks/gpu.py runs."""
