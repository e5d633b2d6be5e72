"""Log lines on standard error, as text or as JSON."""

import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from app import logs


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


def test_a_text_line_has_time_level_logger_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "info")
    logging.getLogger("mixer.test").warning("%d pictures", 3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(" WARNING mixer.test 3 pictures\n")
    assert captured.err[:4].isdigit()


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
    assert line["timestamp"]


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
