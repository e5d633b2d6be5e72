"""Each protocol of others."""
