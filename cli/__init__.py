"""The command line, beside the service."""
