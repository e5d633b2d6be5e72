"""What a client sees: endpoints, their schemas and their errors."""
