"""The service judged by clients of other services, as they are: they run in an environment of their own."""
