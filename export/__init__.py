"""Checkpoint to ONNX: write the graph, prove it equal, publish the bundle."""
