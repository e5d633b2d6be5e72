"""The page at / as people see it: in Chromium, on a service in a process of its own."""
