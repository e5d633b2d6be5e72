"""`mixer classify` and `mixer embed` for more pictures than fit a screen: sources in, rows in files out."""
