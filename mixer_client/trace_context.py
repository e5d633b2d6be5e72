"""The span that a caller is in, as headers that pass it on. Imports OpenTelemetry only where the caller has done so."""

import sys


def trace_headers() -> dict[str, str]:
    """By the propagators that the program has chosen; none where it traces nothing, or is in no span."""
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.propagate import inject  # noqa: PLC0415

    headers: dict[str, str] = {}
    inject(headers)
    return headers
