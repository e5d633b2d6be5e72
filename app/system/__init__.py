"""What a process has of the machine: processors, memory, signals. Knows nothing of requests or models."""
