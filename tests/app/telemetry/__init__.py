"""Tests of app/telemetry/."""
