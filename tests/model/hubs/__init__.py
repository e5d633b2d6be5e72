"""Tests of model/hubs/."""
