"""Other serving frameworks with the same graph, the same decode code and the same answer; one module each."""
