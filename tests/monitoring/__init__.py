"""What ships to watch the service: rules, their unit tests, the dashboard, and both against a real Prometheus."""
