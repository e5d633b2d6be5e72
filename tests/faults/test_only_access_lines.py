"""Whatever a client sends, all that it writes into the log is access lines: one a request, each with an end."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.color_bundle import RED, image
from tests.app.servers import Server
from tests.faults.test_hostile_clients import ENDLESS, LIES
from tests.faults.test_hostile_images import BOMBS, BROKEN, LARGE, NOTHING_BUT_HEADERS, ODD, File
from tests.faults.wire import ask, batch, post, served

pytestmark = pytest.mark.process

MOST_CHARACTERS = 10_000  # each character of a detail may become six or twelve in JSON
LAST = b"the-last-one"
FILES = {
    f"{kind}: {name}": file
    for kind, files in {
        "bomb": BOMBS,
        "headers": NOTHING_BUT_HEADERS,
        "broken": BROKEN,
        "odd": ODD,
        "large": LARGE,
    }.items()
    for name, file in files.items()
}
FORGED = b"2026-01-01T00:00:00.000Z ERROR mixer.server stopped"
HEADS = {
    **ENDLESS,
    **{name: head for name, (head, status) in LIES.items() if status != 504},  # which only takes long
    "a path of escapes": post(b"", path=b"/%0A" + FORGED.replace(b" ", b"%20") + b"%F0%9F%98%80" * 3000),
    "a query of escapes": post(b"", path=b"/classify?top_k=%0A" + FORGED.replace(b" ", b"%20") * 500),
    "a parameter of escapes": post(b"", path=b"/classify?" + b"%1b%5b2J%E2%80%A8" * 500 + b"=1"),
    "an id": post(b"", b"X-Request-Id: " + FORGED),
    "a type": post(b"", content_type=FORGED + b'"' * 900),
    "a coding": post(b"", b"Transfer-Encoding: " + FORGED * 50),
    "a timeout": post(b"", b"X-Request-Timeout-Ms: \x80" + FORGED * 50),
    "a key": post(b"", b"X-API-Key: " + FORGED),
    "another client": post(b"", b"X-Forwarded-For: " + FORGED * 1000, b"X-Forwarded-Proto: " + FORGED),
    "a method": b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n",
    "a version": b"GET / HTTP/" + FORGED + b"\r\n\r\n",
    "an offer": post(b"", b"Connection: Upgrade", b"Upgrade: " + FORGED),
}


@pytest.fixture(scope="module")
def json_service(bundle: Path) -> Iterator[Server]:
    with served(bundle, "--workers", "1", "--log-format", "json", "--body-timeout-s", "5") as running:
        running.wait_until_serving()
        yield running


_number = itertools.count()


def lines_about(server: Server, request: bytes) -> list[dict[str, Any]]:
    """What is written from this request up to the next one, which is harmless and not among them."""
    before, mark = len(server.lines), LAST + b"-%d" % next(_number)
    ask(server, request)
    ask(server, post(b"", b"X-Request-Id: " + mark))
    server.wait_for(f'"request_id": ?"{mark.decode()}"')
    written = server.lines[before:]
    assert max(map(len, written)) < MOST_CHARACTERS
    lines = [json.loads(line) for line in written]
    return [line for line in lines if not line.get("request_id", "").startswith(LAST.decode())]


def expect_access_lines(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        assert line["logger"] == "mixer.access", line
        assert ("code" in line) == (line["status"] >= 400), line
        assert all(value.isprintable() for value in line.values() if isinstance(value, str)), line
        assert not any(" ERROR " in str(line[name]) for name in ("path", "request_id", "client")), line


@pytest.mark.parametrize("file", FILES.values(), ids=FILES.keys())
def test_a_hostile_file_has_its_access_line_and_no_other(file: File, json_service: Server) -> None:
    lines = lines_about(json_service, post(file()))
    assert len(lines) == 1
    expect_access_lines(lines)


def test_hostile_files_in_a_batch_have_the_line_of_the_batch(json_service: Server) -> None:
    (line,) = lines_about(json_service, batch(image(RED), *(file() for file in BROKEN.values())))
    expect_access_lines([line])
    assert sum(line["errors"].values()) == len(BROKEN)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_hostile_head_has_its_access_line_and_no_other(head: bytes, json_service: Server) -> None:
    lines = lines_about(json_service, head)
    assert lines
    assert len(lines) <= 2  # what follows a request whose length is a lie is another one
    expect_access_lines(lines)
