"""The clients, one a module: they run in .venv-clients, and know of the service nothing but its address."""
