"""Images of every kind that a format has, and how they are seen."""
