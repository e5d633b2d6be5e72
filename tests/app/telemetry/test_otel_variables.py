"""OpenTelemetry's variables decide whether there are traces, and say in one line of the log where not."""

import logging
import os
import subprocess
import sys
from typing import Any

import pytest

from app.telemetry import otel_variables
from app.telemetry.otel_variables import opened, wants_traces, why_not

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("variables", "wants"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "otlp"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "false"}, True),
    ],
)
def test_traces_are_wanted_where_an_endpoint_is_set_and_nothing_turns_them_off(
    variables: dict[str, str], wants: bool
) -> None:
    assert wants_traces(variables) is wants


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'; expected http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is 'http/json'"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'; expected otlp"),
    ],
)
def test_what_is_not_known_here_is_named(more: dict[str, str], words: str) -> None:
    assert words in str(why_not(ENDPOINT | more))


@pytest.mark.parametrize(
    "endpoint",
    ["http://[::1", "http://me:secret@\u2100", "me:secret@collector:4318", "grpc://collector", "http://", "http://a:b"],
)
def test_an_endpoint_that_is_no_url_is_named_and_not_shown(endpoint: str) -> None:
    words = "OTEL_EXPORTER_OTLP_ENDPOINT is no URL; expected one like http://collector:4318"
    assert why_not({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) == words


@pytest.mark.parametrize("more", [{}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, {"OTEL_TRACES_EXPORTER": ""}])
def test_what_is_known_is_not(more: dict[str, str]) -> None:
    assert why_not(ENDPOINT | more) is None


def test_without_the_extra_the_service_starts_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(otel_variables, "_PACKAGES", ("opentelemetry_of_nobody.sdk",))
    with caplog.at_level(logging.INFO):
        assert opened(ENDPOINT, "1", 0) is None
        assert opened(ENDPOINT, "1", 1) is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry cannot be imported")
    assert "the extra otel" in line
    assert line.endswith("no traces are sent")


def test_no_secret_of_an_endpoint_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    url = "http://user:secret@127.0.0.1:9/?api-key=secret#secret"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    with caplog.at_level(logging.INFO):
        traces: Any = opened({"OTEL_EXPORTER_OTLP_ENDPOINT": url}, "1", 0)
    traces._processor.shutdown()
    assert [record.getMessage() for record in caplog.records] == ["traces are sent to http://127.0.0.1:9/"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000000", "max_export_batch_size must be less than"),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "nobody", "Requested component 'nobody' not found"),
    ],
)
def test_a_variable_that_the_sdk_refuses_is_told_in_a_line(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, value)
    assert opened(ENDPOINT, "1", 0) is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(words)
    assert line.endswith("no traces are sent")


def test_where_no_traces_are_wanted_the_sdk_is_not_imported() -> None:
    code = "import sys, app.main; print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
