"""Each protocol of others in a module: how it asks, how it is answered, and what several of them share."""
