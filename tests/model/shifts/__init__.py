"""Tests of the changes to pictures."""
