"""A service on one machine and on many, simulated with what was measured of one."""
