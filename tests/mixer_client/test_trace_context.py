"""A caller's span goes with its requests, and OpenTelemetry is imported by nobody else."""

import subprocess
import sys

import pytest

from mixer_client.calls import Target, Wish, classification
from mixer_client.images import Payload
from mixer_client.trace_context import trace_headers

trace = pytest.importorskip("opentelemetry.trace")
PARENT = trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1))


def test_a_request_passes_the_current_span_on() -> None:
    target, call = Target("http://service", None), classification(Payload(b"picture", "image/png"), Wish())
    with trace.use_span(trace.NonRecordingSpan(PARENT)):
        inside = target.request(call, 1)
    assert inside.headers["traceparent"] == f"00-{1:032x}-{2:016x}-01"
    assert "traceparent" not in target.request(call, 1).headers


def test_no_other_header_of_a_request_can_be_replaced_so() -> None:
    with trace.use_span(trace.NonRecordingSpan(PARENT)):
        request = Target("http://service", "key").request(classification(Payload(b"", ""), Wish()), 1)
    assert request.headers["authorization"] == "Bearer key"


def test_where_the_caller_has_not_imported_it_nothing_is_imported() -> None:
    code = "import sys, mixer_client; from mixer_client.trace_context import trace_headers as told; print(told()); "
    code += "print(any(name.startswith('opentelemetry') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["{}", "False"]


def test_outside_of_a_span_there_is_nothing_to_pass_on() -> None:
    assert trace_headers() == {}
