"""Tests of app/inference/."""
