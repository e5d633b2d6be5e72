"""One image from its bytes to its most probable labels: decoded, batched, run. Knows nothing of HTTP."""
