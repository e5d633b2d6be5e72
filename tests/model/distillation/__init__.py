"""Tests that mirror model/distillation."""
