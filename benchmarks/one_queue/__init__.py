"""A prototype: one process for HTTP and admission, others that decode and run. Measured, not served by anybody."""
