"""Tests of export/card/."""
