"""`mixer collected`: what is done with the pictures that a service has kept."""
