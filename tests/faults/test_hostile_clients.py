"""Clients that are slow, gone, wrong or greedy: each gets its answer or its end, and the others get theirs."""

import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from colour_bundle import BLUE, GREEN, RED, picture
from servers import Server, head_of_upload, read_until
from wire import (
    A_RUN_HAS_BEGUN,
    FORM,
    Answer,
    Reader,
    ask,
    batch,
    gated,
    metric,
    part,
    pid_of,
    post,
    served,
    until,
    usage,
)

GONE_WHILE_SENDING = 'mixer_dropped_total{reason="client_gone",stage="receive"}'
GONE_WHILE_QUEUED = 'mixer_dropped_total{reason="client_gone",stage="queue"}'
GONE_WHILE_RUNNING = 'mixer_dropped_total{reason="client_gone",stage="infer"}'
GONE = 'mixer_images_total{outcome="client_gone"}'
CLASSIFIED = 'mixer_images_total{outcome="classified"}'

CHUNKED = b"Transfer-Encoding: chunked"
PICTURE = picture(RED)


def hang_up(connection: socket.socket) -> None:
    """Without a goodbye: the other side is told of a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def say_goodbye(connection: socket.socket) -> None:
    """Nothing more will be sent: what `nc -N` does, and what every system does for a program that ended."""
    connection.shutdown(socket.SHUT_WR)


def expect_service(server: Server) -> None:
    assert ask(server, post(picture(GREEN))).label == "green"


def in_chunks(payload: bytes, size: int) -> bytes:
    pieces = (payload[start : start + size] for start in range(0, len(payload), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# --- gone ---


@pytest.mark.parametrize("sent", [b"", b"P", b"POST /classify HTTP/1.1\r\nHost:"])
@pytest.mark.parametrize("leave", [hang_up, say_goodbye])
def test_a_client_that_goes_before_its_request_is_nobody(sent: bytes, leave: object, service: Server) -> None:
    before = len(service.lines)
    connection = service.connect()
    connection.sendall(sent)
    assert callable(leave)
    leave(connection)
    connection.close()
    expect_service(service)
    service.wait_for("mixer.access POST /classify 200")
    assert not [line for line in service.lines[before:] if " 200 " not in line]


@pytest.mark.parametrize("leave", [hang_up, say_goodbye])
def test_a_client_that_goes_while_sending_is_counted_there(leave: object, service: Server) -> None:
    before = metric(service, GONE_WHILE_SENDING)
    connection = service.connect()
    connection.sendall(head_of_upload(1000))
    assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    connection.sendall(PICTURE[:10])
    assert callable(leave)
    leave(connection)
    until(lambda: metric(service, GONE_WHILE_SENDING) == before + 1)
    connection.close()
    expect_service(service)


@pytest.fixture(scope="module")
def one_at_a_time(bundle: Path) -> Iterator[Server]:
    """A service whose every run waits for a signal."""
    with gated(bundle, "--max-batch-size", "1") as running:
        running.wait_until_serving()
        yield running


@pytest.mark.parametrize("leave", [hang_up, say_goodbye])
def test_a_client_that_goes_while_its_picture_waits_costs_no_run(leave: object, one_at_a_time: Server) -> None:
    server = one_at_a_time
    runs = server.lines.count(A_RUN_HAS_BEGUN + "\n")
    classified, gone = metric(server, CLASSIFIED), metric(server, GONE_WHILE_QUEUED)
    with server.connect() as ahead, server.connect() as leaving:
        ahead.sendall(post(picture(GREEN)))
        server.wait_for(A_RUN_HAS_BEGUN, runs + 1)
        leaving.sendall(post(picture(BLUE)))
        until(lambda: metric(server, "mixer_queue_depth") == 1)
        assert callable(leave)
        leave(leaving)
        until(lambda: metric(server, GONE_WHILE_QUEUED) == gone + 1)
        assert metric(server, "mixer_queue_depth") == 0
        server.signal(signal.SIGUSR1)
        assert Reader(ahead).answer().label == "green"
    assert server.lines.count(A_RUN_HAS_BEGUN + "\n") == runs + 1
    assert metric(server, CLASSIFIED) == classified + 1


def test_a_client_that_goes_while_its_picture_runs_is_counted_and_the_lane_goes_on(one_at_a_time: Server) -> None:
    server = one_at_a_time
    runs = server.lines.count(A_RUN_HAS_BEGUN + "\n")
    all_gone, gone = metric(server, GONE), metric(server, GONE_WHILE_RUNNING)
    leaving = server.connect()
    leaving.sendall(post(picture(BLUE)))
    server.wait_for(A_RUN_HAS_BEGUN, runs + 1)
    hang_up(leaving)
    until(lambda: metric(server, GONE_WHILE_RUNNING) == gone + 1)
    assert metric(server, GONE) == all_gone + 1
    assert metric(server, "mixer_in_flight") == 0
    with server.connect() as next_one:
        next_one.sendall(post(picture(GREEN)))
        server.signal(signal.SIGUSR1)
        server.wait_for(A_RUN_HAS_BEGUN, runs + 2)
        server.signal(signal.SIGUSR1)
        assert Reader(next_one).answer().label == "green"


def test_of_requests_sent_ahead_of_junk_none_is_answered_and_none_is_an_error(one_at_a_time: Server) -> None:
    server = one_at_a_time
    lines, gone = len(server.lines), metric(server, GONE)
    with server.connect() as connection:
        connection.sendall(post(picture(BLUE)) * 2 + b"\0junk\r\n\r\n")
        reader = Reader(connection)
        assert reader.answer().status == 400
        assert reader.ended()
    until(lambda: metric(server, "mixer_in_flight") == 0)
    runs = server.lines.count(A_RUN_HAS_BEGUN + "\n")
    with server.connect() as next_one:
        next_one.sendall(post(picture(GREEN)))
        server.wait_for(A_RUN_HAS_BEGUN, runs + 1)
        server.signal(signal.SIGUSR1)
        assert Reader(next_one).answer().label == "green"
    assert metric(server, GONE) <= gone + 1
    assert not [line for line in server.lines[lines:] if "ERROR" in line or "Traceback" in line]


# --- slow ---


@pytest.fixture(scope="module")
def impatient(bundle: Path) -> Iterator[Server]:
    """One process that waits a second for a body and two for a request, and has room for 20 connections."""
    flags = ["--body-timeout-s", "1", "--keep-alive-timeout-s", "2", "--max-connections", "20", "--workers", "1"]
    with served(bundle, *flags) as running:
        running.wait_until_serving()
        yield running


def test_a_body_that_comes_too_slowly_gets_504_and_holds_nobody_up(impatient: Server) -> None:
    with impatient.connect() as slow:
        slow.sendall(head_of_upload(1000))
        assert read_until(slow, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        slow.sendall(PICTURE[:10])
        expect_service(impatient)
        answer = Reader(slow).answer()
    assert (answer.status, answer.code) == (504, "deadline_passed")


@pytest.mark.parametrize("begun", [b"", b"POST /classify HTTP/1.1\r\nX: "])
def test_a_connection_without_a_request_is_closed(begun: bytes, impatient: Server) -> None:
    with impatient.connect() as silent:
        silent.sendall(begun)
        assert Reader(silent).ended()
    expect_service(impatient)


@pytest.mark.parametrize("answered", [False, True])
def test_a_trickle_of_bytes_does_not_keep_a_connection_open(*, answered: bool, impatient: Server) -> None:
    """Neither of a first request's headers, nor of a body that has had its answer."""
    with impatient.connect() as trickling:
        trickling.sendall(b"POST /classify HTTP/1.1\r\nX: ")
        if answered:
            trickling.sendall(b"a\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n")
            assert Reader(trickling).answer().status == 415
        trickling.settimeout(0.1)
        ended, sent = False, 0
        while not ended:
            try:
                trickling.sendall(b"a")
                ended, sent = not trickling.recv(100), sent + 1
            except TimeoutError:
                assert sent < 300
            except OSError:
                ended = True


def test_beyond_the_most_connections_one_more_gets_503_and_the_idle_ones_make_room(impatient: Server) -> None:
    until(lambda: _connections_of(impatient) == 0)
    idle = [impatient.connect() for _ in range(19)]
    until(lambda: _connections_of(impatient) == 19)
    expect_service(impatient)  # the twentieth
    until(lambda: _connections_of(impatient) == 19)
    idle.append(impatient.connect())
    until(lambda: _connections_of(impatient) == 20)
    assert ask(impatient, post(PICTURE)).status == 503
    for connection in idle:
        assert Reader(connection).ended()
        connection.close()
    expect_service(impatient)


# --- wrong ---

LENGTH = b"Content-Length: %d"
LIES = {
    "a length too short": (post(PICTURE, LENGTH % (len(PICTURE) - 20)), 400),
    "a length too long": (post(PICTURE, LENGTH % (len(PICTURE) + 20)), 504),
    "a length below zero": (post(PICTURE, b"Content-Length: -5"), 400),
    "a length beyond all": (post(PICTURE, b"Content-Length: 99999999999999999999999999"), 400),
    "a length of a gigabyte": (post(PICTURE, LENGTH % (1 << 30)), 413),
    "two lengths": (post(PICTURE, LENGTH % len(PICTURE), LENGTH % 6), 400),
    "a length and chunks": (post(in_chunks(PICTURE, 50), LENGTH % 5, CHUNKED), 400),
    "chunks that are none": (post(b"zz\r\n" + PICTURE, CHUNKED), 400),
    "chunks that never end": (post(in_chunks(PICTURE, 50)[:-5], CHUNKED), 504),
    "an unknown coding": (post(PICTURE, b"Transfer-Encoding: gzip"), 400),
    "a picture called text": (post(PICTURE, content_type=b"text/plain"), 415),
    "a picture called a form": (post(PICTURE, content_type=FORM), 400),
    "a form called a picture": (post(part(PICTURE) + b"--XX--\r\n"), 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a proxy's request": (b"CONNECT example.com:443 HTTP/1.1\r\n\r\n", 400),
    "a path that is no text": (b"GET /\xff\xfe HTTP/1.1\r\nHost: service\r\n\r\n", 400),
}


@pytest.mark.parametrize(("request_bytes", "status"), LIES.values(), ids=LIES.keys())
def test_a_lie_is_answered_with_a_fault_of_the_clients(request_bytes: bytes, status: int, impatient: Server) -> None:
    assert ask(impatient, request_bytes).status == status
    expect_service(impatient)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_body_in_chunks_needs_no_length(size: int, service: Server) -> None:
    assert ask(service, post(in_chunks(PICTURE, size), CHUNKED)).label == "red"


ENDLESS = {
    "a header": post(b"", b"X: " + b"a" * 1_000_000),
    "headers": post(b"", *[b"X: a"] * 100_000),
    "a path": post(b"", path=b"/classify?" + b"a" * 1_000_000),
    "trailers": post(in_chunks(PICTURE, 50)[:-2] + b"X: a\r\n" * 200_000, CHUNKED),
    "a chunk's extension": post(b"5;" + b"a" * 1_000_000, CHUNKED),
}


@pytest.mark.parametrize("request_bytes", ENDLESS.values(), ids=ENDLESS.keys())
def test_headers_without_end_get_431(request_bytes: bytes, service: Server) -> None:
    assert ask(service, request_bytes).status in (431, 0)  # 0: it was still sending, and only saw the end
    expect_service(service)


def test_headers_of_ordinary_size_pass(service: Server) -> None:
    assert ask(service, post(PICTURE, *[b"Cookie: " + b"a" * 4000] * 8)).label == "red"


def test_a_form_of_thousands_of_parts_is_refused_early(service: Server) -> None:
    before = usage(pid_of(service)).cpu_s
    for piece in (part(PICTURE), part(b"a note", b"note", None)):
        form = piece * 50_000 + b"--XX--\r\n"
        answer = ask(service, post(form, path=b"/classify/batch", content_type=FORM))
        assert answer.code in ("too_many_bytes", "")
        assert answer.status in (413, 0)
    assert usage(pid_of(service)).cpu_s - before < 1
    expect_service(service)


# --- greedy ---


def test_one_connection_serves_hundreds_of_requests_in_turn(service: Server) -> None:
    with service.connect() as connection:
        reader = Reader(connection)
        for _ in range(150):
            for colour, label in ((RED, "red"), (BLUE, "blue")):
                connection.sendall(post(picture(colour)))
                assert reader.answer().label == label


def test_hundreds_of_requests_at_once_on_one_connection_are_answered_in_order(service: Server) -> None:
    colours = [(RED, "red"), (GREEN, "green"), (BLUE, "blue")] * 100
    with service.connect() as connection:
        reader = Reader(connection)
        connection.sendall(b"".join(post(picture(colour)) for colour, _ in colours))
        assert [reader.answer().label for _ in colours] == [label for _, label in colours]


def test_a_client_that_asks_and_never_reads_is_heard_no_further_and_then_cut_off(impatient: Server) -> None:
    before = usage(pid_of(impatient)).held
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", impatient.port))
        deaf.settimeout(1)
        with pytest.raises((TimeoutError, ConnectionError)):
            deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: service\r\n\r\n" * 1_000_000)
        expect_service(impatient)
        assert usage(pid_of(impatient)).held - before < 40
        until(lambda: _connections_of(impatient) == 0)


def test_a_batch_whose_client_goes_is_given_up_whole(one_at_a_time: Server) -> None:
    server = one_at_a_time
    runs = server.lines.count(A_RUN_HAS_BEGUN + "\n")
    queued, running = metric(server, GONE_WHILE_QUEUED), metric(server, GONE_WHILE_RUNNING)
    leaving = server.connect()
    leaving.sendall(batch(*[PICTURE] * 5))
    server.wait_for(A_RUN_HAS_BEGUN, runs + 1)
    until(lambda: metric(server, "mixer_queue_depth") == 4)
    hang_up(leaving)
    until(lambda: metric(server, GONE_WHILE_QUEUED) == queued + 4)
    assert metric(server, GONE_WHILE_RUNNING) == running + 1
    server.signal(signal.SIGUSR1)
    answers: list[Answer] = []
    with server.connect() as next_one:
        next_one.sendall(post(picture(GREEN)))
        server.wait_for(A_RUN_HAS_BEGUN, runs + 2)  # and none for the four
        server.signal(signal.SIGUSR1)
        answers.append(Reader(next_one).answer())
    assert answers[0].label == "green"


def _connections_of(server: Server) -> int:
    """As the system counts them: those that the server has and the client has not closed."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    here = f":{server.port:04X}"
    return sum(fields[1].endswith(here) and fields[3] in ("01", "08") for fields in map(str.split, lines))
