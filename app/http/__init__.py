"""One request: its head, body, key and log line. Knows nothing of models."""
