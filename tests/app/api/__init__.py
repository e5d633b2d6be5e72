"""Tests of app/api/."""
