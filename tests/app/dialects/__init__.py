"""Tests of app/dialects/."""
