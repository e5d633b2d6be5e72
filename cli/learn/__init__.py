"""What surrounds a training run on the command line: what is told, heads on frozen networks, and the bundle."""
