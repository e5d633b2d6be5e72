"""uvicorn as one process or several that share a port. Knows nothing of images."""
