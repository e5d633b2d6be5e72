"""`mixer bench`: what this machine can do, and what the service gets of it."""
