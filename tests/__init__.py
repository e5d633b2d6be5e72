"""The tests: one folder for each package and room."""
