"""Bytes -> pixels, at a cost that is known before it is paid. Knows nothing of models or HTTP."""
