"""Models by name: opened, proved, replaced. Knows nothing of HTTP."""
