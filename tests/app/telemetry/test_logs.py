"""Log lines on standard error, as text or as JSON."""

import contextvars
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator

import pytest

from app.telemetry import logs
from app.telemetry.tracing import CURRENT, SpanId, Trace

UTC_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def logging_put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, show = root.handlers[:], root.level, warnings.showwarning
    root.handlers = []  # basicConfig closes what it finds
    yield
    logging.captureWarnings(capture=False)
    warnings.showwarning = show
    root.handlers, root.level = handlers, level
    logging.getLogger("PIL").setLevel(logging.NOTSET)


def fail(words: str) -> None:
    raise ValueError(words)


def test_a_text_line_has_time_level_logger_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "info")
    logging.getLogger("mixer.test").warning("%d pictures", 3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(" WARNING mixer.test 3 pictures\n")
    assert re.match(UTC_TIME + " ", captured.err)


def test_a_json_line_has_the_same_and_what_was_added(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    logging.getLogger("mixer.test").error("%d pictures", 3, extra={"request_id": "r1"})
    line = json.loads(capsys.readouterr().err)
    assert {
        "level": "ERROR",
        "logger": "mixer.test",
        "message": "3 pictures",
        "request_id": "r1",
    }.items() <= line.items()
    assert re.fullmatch(UTC_TIME, line["timestamp"])


def test_every_json_line_says_which_process_wrote_it_and_whether_it_is_a_worker(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("json", "info")
    logging.getLogger("mixer.test").info("before")
    logs.name_worker(0, 1)
    logging.getLogger("uvicorn.error").info("after")
    before, after = map(json.loads, capsys.readouterr().err.splitlines())
    assert (before["worker"], before["pid"]) == (None, os.getpid())
    assert (after["worker"], after["pid"]) == (0, os.getpid())


@pytest.mark.parametrize(("workers", "prefix"), [(1, ""), (2, "[worker 1 pid {pid}] ")])
def test_a_text_line_says_so_where_there_are_several_workers(
    workers: int, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("text", "info")
    logs.name_worker(1, workers)
    logging.getLogger("mixer.test").warning("three")
    assert capsys.readouterr().err.endswith(f" WARNING {prefix.format(pid=os.getpid())}mixer.test three\n")


def test_a_line_of_uvicorns_has_the_same_form_and_no_format_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    logging.getLogger("uvicorn.error").info("process [%d]", 7, extra={"color_message": "process [\x1b[36m%d\x1b[0m]"})
    line = json.loads(capsys.readouterr().err)
    assert list(line) == ["timestamp", "worker", "level", "logger", "pid", "message"]
    assert line["message"] == "process [7]"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_has_an_end_and_keeps_its_own(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(log_format, "info")
    try:
        fail("x" * 500_000 + " the last words")
    except ValueError:
        logging.getLogger("mixer.test").exception("failed", stack_info=True)
    written = capsys.readouterr().err
    assert len(written) < 20_000
    assert "Traceback (most recent call last)" in written
    assert "the last words" in written


def test_text_inside_a_traceback_passes_for_no_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "info")
    forged = "2026-01-01T00:00:00.000Z ERROR   mixer.server stopped"
    try:
        fail(f"a\n{forged}\r{forged}\x1b[2J")
    except ValueError:
        logging.getLogger("mixer.test").exception("failed", stack_info=True)
    first, *others = capsys.readouterr().err.split("\n")[:-1]
    assert first.endswith(" ERROR   mixer.test failed")
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    assert any(forged in line for line in others)


def test_a_traceback_is_part_of_its_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    try:
        int("seven")
    except ValueError:
        logging.getLogger("mixer.test").exception("failed")
    line = json.loads(capsys.readouterr().err)
    assert "ValueError: invalid literal for int()" in line["exc_info"]


def test_less_severe_lines_than_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "warning")
    logging.getLogger("mixer.test").info("quiet")
    assert capsys.readouterr().err == ""


def test_configuring_again_replaces_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "info")
    logs.configure("json", "info")
    logging.getLogger("mixer.test").info("once")
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.filterwarnings("always::UserWarning")
def test_warnings_are_log_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    warnings.warn("be careful", UserWarning, stacklevel=1)
    line = json.loads(capsys.readouterr().err)
    assert (line["logger"], line["level"]) == ("py.warnings", "WARNING")
    assert "be careful" in line["message"]


def test_warnings_about_a_clients_file_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    warnings.warn_explicit(
        "Possibly corrupt EXIF data", UserWarning, "PIL/TiffImagePlugin.py", 1, "PIL.TiffImagePlugin"
    )
    assert capsys.readouterr().err == ""


def test_what_pillow_says_of_a_clients_file_is_not_a_line_either(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "debug")
    for name in ("PIL", "PIL.TiffImagePlugin", "PIL.PngImagePlugin"):
        logging.getLogger(name).error("More samples per pixel than can be decoded: %s", 7)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_message_is_one_line_with_an_end(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(log_format, "info")
    log = logging.getLogger("mixer.test")
    log.info("a\nERROR b\x1b[2J\u2028%s", "\r")
    log.info("x" * 50_000)
    first, second = capsys.readouterr().err.splitlines()
    said = json.loads(first)["message"] if log_format == "json" else first.partition("mixer.test ")[2]
    assert said == "a\\nERROR b\\x1b[2J\\u2028\\r"
    assert len(second) < 5000
    assert "(50000 characters)" in second


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_line_of_a_traced_request_has_its_ids_and_no_other_has(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(log_format, "info")
    trace = Trace(SpanId(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD), None, 0.0, lambda spans: None)

    def inside() -> None:
        CURRENT.set(trace)
        logging.getLogger("mixer.test").info("inside")

    contextvars.copy_context().run(inside)
    logging.getLogger("mixer.test").info("outside")
    inside_line, outside_line = capsys.readouterr().err.splitlines()
    if log_format == "json":
        fields = json.loads(inside_line)
        assert fields["message"] == "inside"
        assert (fields["trace_id"], fields["span_id"]) == ("0af7651916cd43dd8448eb211c80319c", "000000000000b7ad")
        assert not {"trace_id", "span_id"} & json.loads(outside_line).keys()
    else:
        assert inside_line.endswith("inside trace_id=0af7651916cd43dd8448eb211c80319c span_id=000000000000b7ad")
        assert outside_line.endswith("mixer.test outside")
