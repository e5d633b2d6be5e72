"""Lines of requests wait a moment for each other; nothing is lost, reordered, or torn where processes share a pipe."""

import asyncio
import contextvars
import io
import json
import logging
import os
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.telemetry import logs
from app.telemetry.line_buffer import BufferedHandler, write_info
from app.telemetry.tracing import CURRENT, SpanId, Trace
from tests.app.servers import ROOT, clean_environment

FIELDS = {"method": "POST", "path": "/classify", "status": 200, "duration_ms": 1.25, "client": "::1", "key": None}
log = logging.getLogger("mixer.access")


class Watched(io.StringIO):
    """What was written, a write at a time, and whether something was."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.on_write: Callable[[], object] = lambda: None

    def write(self, text: str) -> int:
        self.writes.append(text)
        self.on_write()
        return len(text)


@contextmanager
def buffered() -> Iterator[Watched]:
    """What the only handler there is writes. A fixture would come before pytest's own handlers."""
    root, stream = logging.getLogger(), Watched()
    handlers, level, made = root.handlers, root.level, BufferedHandler(stream)
    made.setFormatter(logs._Text())
    root.handlers = [made]
    root.setLevel(logging.INFO)
    try:
        yield stream
    finally:
        root.handlers = handlers
        root.setLevel(level)


def words(writes: list[str]) -> list[list[str]]:
    """The last word of each line, by write."""
    return [[line.rpartition(" ")[2] for line in written.splitlines()] for written in writes]


async def test_lines_of_one_moment_are_written_at_once_and_soon() -> None:
    with buffered() as stream:
        written = asyncio.Event()
        stream.on_write = written.set
        assert all(write_info(log, word, FIELDS) for word in ("a", "b", "c"))
        assert stream.writes == []
        await written.wait()
        assert words(stream.writes) == [["a", "b", "c"]]
        written.clear()
        write_info(log, "d", FIELDS)
        await written.wait()
        assert words(stream.writes) == [["a", "b", "c"], ["d"]]


async def test_any_other_line_is_written_at_once_and_after_those_that_wait() -> None:
    with buffered() as stream:
        write_info(log, "a", FIELDS)
        logging.getLogger("mixer.test").warning("b")
        assert words(stream.writes) == [["a", "b"]]
        write_info(log, "c", FIELDS)
        log.info("d")
        assert words(stream.writes) == [["a", "b"], ["c", "d"]]


def test_without_an_event_loop_nothing_waits() -> None:
    with buffered() as stream:
        write_info(log, "a", FIELDS)
        assert words(stream.writes) == [["a"]]


async def test_what_waits_is_written_at_the_end() -> None:
    with buffered() as stream:
        write_info(log, "a", FIELDS)
        logging.getLogger().handlers[0].flush()
        logging.getLogger().handlers[0].flush()
        assert words(stream.writes) == [["a"]]


def test_an_event_loop_that_has_ended_keeps_no_other_from_writing() -> None:
    with buffered() as stream:

        async def last() -> None:
            write_info(log, "a", FIELDS)

        async def next_one() -> None:
            written = asyncio.Event()
            stream.on_write = written.set
            write_info(log, "b", FIELDS)
            await written.wait()

        asyncio.run(last())
        assert stream.writes == []
        asyncio.run(next_one())
        assert words(stream.writes) == [["a", "b"]]


async def test_no_write_is_longer_than_what_a_pipe_takes_whole() -> None:
    with buffered() as stream:
        sent = [f"{character * length}-{number}" for number, (character, length) in enumerate([
            *[("x", 100)] * 60, ("ä", 1900), ("ä", 1900), ("€", 1300), ("x", 4000), ("x", 50), ("ä", 4000), ("x", 1),
        ])]  # fmt: skip
        for word in sent:
            write_info(log, word, FIELDS)
        logging.getLogger().handlers[0].flush()
        assert [word for one in words(stream.writes) for word in one] == sent
        lengths = [(len(text.encode()), text.count("\n")) for text in stream.writes]
        assert all(length <= select.PIPE_BUF or lines == 1 for length, lines in lengths)
        assert max(lines for _, lines in lengths) > 20
        assert all(text.endswith("\n") for text in stream.writes)


def test_what_cannot_be_written_is_lost_and_what_follows_is_not() -> None:
    with buffered() as stream:

        def full() -> None:
            raise OSError(28, "No space left on device")

        stream.on_write = full
        write_info(log, "a", FIELDS)
        log.error("b")
        stream.on_write = lambda: None
        write_info(log, "c", FIELDS)
        assert words(stream.writes)[-1] == ["c"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("I/O operation on closed file.")])
def test_whoever_logs_hears_nothing_of_a_stream_that_takes_no_more(error: Exception) -> None:
    with buffered() as stream:

        def fails() -> None:
            raise error

        stream.on_write = fails
        assert write_info(log, "a", FIELDS)
        log.error("b")


def test_a_line_that_cannot_be_made_is_none_and_nothing_is_raised() -> None:
    with buffered() as stream:
        logging.getLogger().handlers[0].setFormatter(logs._Json())
        assert not write_info(log, "a", {("no", "name"): 1})  # type: ignore[dict-item]
        assert stream.writes == []


def test_a_record_that_cannot_be_formatted_keeps_no_other_back(capsys: pytest.CaptureFixture[str]) -> None:
    with buffered() as stream:
        log.info("%d", "no number")
        assert "TypeError" in capsys.readouterr().err  # as logging tells it
        log.info("a")
        assert words(stream.writes) == [["a"]]


# --- a line without a record ---


def both(formatter: Any, created: float, message: str, fields: Mapping[str, Any]) -> tuple[str, str]:
    """The line, and what a record with the same values is formatted to."""
    record = logging.makeLogRecord(
        {"name": "mixer.access", "levelname": "INFO", "levelno": 20, "msg": message, "created": created, **fields}
    )
    return formatter.line(created, "INFO", "mixer.access", message, fields), formatter.format(record)


@pytest.mark.parametrize("kind", [logs._Text, logs._Json])
@pytest.mark.parametrize("worker", [None, 1])
@given(
    created=st.floats(0, 4e9),
    message=st.text(),
    fields=st.fixed_dictionaries(
        {"status": st.integers(), "duration_ms": st.floats(0, 1e9), "key": st.none() | st.text()},
        optional={"detail": st.text(), "errors": st.dictionaries(st.text(), st.integers())},
    ),
)
def test_it_is_the_line_that_logging_would_make(
    kind: Any, worker: int | None, created: float, message: str, fields: dict[str, Any]
) -> None:
    line, formatted = both(kind(worker), created, message, fields)
    assert line == formatted


@pytest.mark.parametrize("kind", [logs._Text, logs._Json])
def test_so_it_is_in_a_request_that_is_traced(kind: Any) -> None:
    def inside() -> tuple[str, str]:
        CURRENT.set(Trace(SpanId(1, 2), None, 0.0, lambda spans: None))
        return both(kind(), 1.0, "x" * 5000, FIELDS)

    line, formatted = contextvars.copy_context().run(inside)
    assert line == formatted
    assert "0" * 31 + "1" in line


@pytest.mark.parametrize(
    "somebody_looks",
    [
        lambda to: to.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers, logging.NullHandler()]),
        lambda to: to.setattr(logging.getLogger(), "handlers", [logging.NullHandler()]),
        lambda to: to.setattr(log, "handlers", [logging.NullHandler()]),
        lambda to: to.setattr(log, "filters", [lambda record: True]),
        lambda to: to.setattr(log, "propagate", False),
        lambda to: to.setattr(log, "parent", logging.Logger("mixer")),
        lambda to: to.setattr(logging.getLogger().handlers[0], "filters", [lambda record: True]),
        lambda to: logging.getLogger().handlers[0].setLevel(logging.WARNING),
        lambda to: logging.getLogger().handlers[0].setFormatter(logging.Formatter()),
        lambda to: to.setattr(logging, "_logRecordFactory", type("Record", (logging.LogRecord,), {})),
    ],
    ids=["a handler more", "another handler", "a handler of its own", "a filter", "no propagation", "another parent",
         "a filter of the handler", "a level", "another formatter", "a factory of records"],
)  # fmt: skip
def test_there_is_none_where_somebody_would_miss_the_record(
    somebody_looks: Callable[[pytest.MonkeyPatch], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with buffered() as stream, monkeypatch.context() as patched:
        somebody_looks(patched)
        assert not write_info(log, "a", FIELDS)
        assert stream.writes == []


# --- processes ---

_SHARED = """
import asyncio, logging, os, sys
from app.telemetry import logs
from app.telemetry.line_buffer import write_info

async def load(number):
    for at in range(1000):
        write_info(log, f"{number} {at}", {"detail": "x" * (at * 7 % 900)})
        if at % 50 == 0:
            await asyncio.sleep(0)

logs.configure("json", "info")
log = logging.getLogger("mixer.access")
for number in range(3):
    if os.fork() == 0:
        asyncio.run(load(number))
        logging.shutdown()
        os._exit(0)
for _ in range(3):
    os.wait()
"""


@pytest.mark.process
def test_processes_that_share_a_pipe_tear_no_lines_and_lose_none() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", _SHARED], cwd=ROOT, env=clean_environment(), capture_output=True, check=True, text=True
    )
    messages = [json.loads(line)["message"].split() for line in finished.stderr.splitlines()]
    for process in "012":
        assert [int(at) for number, at in messages if number == process] == list(range(1000))


_SILENT = """
import asyncio, logging, os
from app.telemetry import logs
from app.telemetry.line_buffer import write_info

async def late():
    write_info(logging.getLogger("mixer.access"), "the last one", {})

logs.configure("text", "info")
asyncio.run(late())
"""


@pytest.mark.process
def test_a_process_that_ends_writes_what_waits() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", _SILENT], cwd=ROOT, env=clean_environment(), capture_output=True, check=True, text=True
    )
    assert re.fullmatch(r"\S+Z INFO    mixer.access the last one\n", finished.stderr)


def test_a_pipe_takes_a_write_of_that_length_whole() -> None:
    """POSIX promises it of PIPE_BUF bytes, and on Linux these are 4096."""
    assert select.PIPE_BUF >= 512
    assert os.pathconf("/", "PC_PIPE_BUF") == select.PIPE_BUF
