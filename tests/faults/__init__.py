"""The service under faults."""
