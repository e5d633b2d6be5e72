"""What the ways to int8 share, and the way that needs no pictures. Knows neither torch nor bundles."""
