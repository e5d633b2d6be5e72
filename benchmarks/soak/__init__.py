"""Mixed traffic for as long as you like, with faults and restarts in between; every answer checked, nothing lost."""
