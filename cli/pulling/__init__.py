"""Models by name: fetched, converted and checked once, kept in a cache, and served from there."""
