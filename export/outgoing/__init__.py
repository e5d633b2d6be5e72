"""Models on their way out: in timm's layout, to a hub, and signed."""
