"""Cross-validation of the default model's training: each photograph is judged by a network that has not seen it."""
