"""Tests of app/decoding/."""
