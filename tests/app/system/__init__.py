"""Tests of app/system/."""
