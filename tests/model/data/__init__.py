"""Tests of model/data/."""
