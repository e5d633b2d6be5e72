"""Graphs without torch: a network's weights, written node by node, judged by NumPy."""
