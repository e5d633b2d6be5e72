"""What the SDK says of its own, as it is logged here, and what becomes of spans that it does not take."""

import logging
import math
from collections.abc import Iterator

import pytest

from app.telemetry.otlp import Otlp
from app.telemetry.tracing import Span, SpanId


@pytest.fixture
def headers() -> str:
    """OTEL_EXPORTER_OTLP_HEADERS."""
    return ""


@pytest.fixture
def otlp(headers: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Otlp]:
    """One whose collector is away."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)
    otlp = Otlp("1", 0)
    yield otlp
    otlp._processor.shutdown()  # type: ignore[no-untyped-call]


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "mixer.traces"]


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        ("no answer of http://me:secret@a/v1/traces?key=secret (gone)", "no answer of http://a/v1/traces (gone)"),
        ("return character(s) in header value: 'Bearer sec\\nret'", "return character(s) in header value: "),
    ],
)
def test_its_lines_have_no_secret(said: str, logged: str, otlp: Otlp, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("opentelemetry.exporter").warning(said)
    assert lines_of(caplog) == [logged]


@pytest.mark.parametrize("headers", ["Authorization: Bearer secret"])
def test_a_header_that_is_none_is_told_without_its_value(otlp: Otlp, caplog: pytest.LogCaptureFixture) -> None:
    (line,) = [record.getMessage() for record in caplog.get_records("setup") if record.name == "mixer.traces"]
    assert line.endswith("_TRACES_HEADERS is not NAME=VALUE, and is left out")


def test_it_has_one_line_a_minute(otlp: Otlp, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        logging.getLogger("opentelemetry.exporter").warning("trouble %d", number)
    assert lines_of(caplog) == ["trouble 0"]


def test_a_span_that_cannot_be_handed_over_is_lost_and_told_of_once_a_minute(
    otlp: Otlp, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        otlp.emit([Span("run", SpanId(1, 2), math.nan, 1.0)])  # no time that an exporter could write
    assert lines_of(caplog) == ["spans could not be handed over, and are lost; this is a bug"]
    assert "cannot convert float NaN" in caplog.text
