"""The commands that bring a model out: to timm's layout, to a hub, and under a signature."""
