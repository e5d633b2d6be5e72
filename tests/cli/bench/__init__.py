"""Tests of `mixer bench`."""
