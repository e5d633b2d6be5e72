"""`mixer bench`: how fast a bundle is on this machine, without HTTP."""
