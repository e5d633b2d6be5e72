"""Tests of cli/pulling/."""
