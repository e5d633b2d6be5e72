"""Clients that are slow, gone, wrong or greedy: each gets its answer or its end, and the others get theirs."""

import os
import shutil
import signal
import socket
import ssl
import struct
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.app.certificates import certificate
from tests.app.color_bundle import BLUE, GREEN, RED, image
from tests.app.servers import PATIENCE_S, STARTED, Server, head_of_upload, owners, read_until, until
from tests.faults.hostile import noise, saved
from tests.faults.wire import (
    A_RUN_HAS_BEGUN,
    FORM,
    Answer,
    Reader,
    ask,
    batch,
    gated,
    lines_so_far,
    metric,
    part,
    pid_of,
    post,
    served,
    usage,
)
from tests.pace import is_within, slowness_at_first

pytestmark = pytest.mark.process

GONE_WHILE_SENDING = 'mixer_dropped_total{reason="client_gone",stage="receive"}'
GONE_WHILE_QUEUED = 'mixer_dropped_total{reason="client_gone",stage="queue"}'
GONE_WHILE_RUNNING = 'mixer_dropped_total{reason="client_gone",stage="infer"}'
GONE = 'mixer_images_total{outcome="client_gone"}'
CLASSIFIED = 'mixer_images_total{outcome="classified"}'

CHUNKED = b"Transfer-Encoding: chunked"
IMAGE = image(RED)
END = b"--XX--\r\n"


def hang_up(connection: socket.socket) -> None:
    """Without a goodbye: the other side is told of a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def say_goodbye(connection: socket.socket) -> None:
    """Nothing more will be sent: what `nc -N` does, and what every system does for a program that ended."""
    connection.shutdown(socket.SHUT_WR)


def expect_service(server: Server) -> None:
    assert ask(server, post(image(GREEN))).label == "green"


def in_chunks(payload: bytes, size: int) -> bytes:
    pieces = (payload[start : start + size] for start in range(0, len(payload), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# --- gone ---


@pytest.mark.parametrize("sent", [b"", b"P", b"POST /classify HTTP/1.1\r\nHost:"])
@pytest.mark.parametrize("leave", [hang_up, say_goodbye])
def test_a_client_that_goes_before_its_request_is_nobody(sent: bytes, leave: object, service: Server) -> None:
    before = lines_so_far(service)
    connection = service.connect()
    connection.sendall(sent)
    assert callable(leave)
    leave(connection)
    connection.close()
    expect_service(service)
    after = lines_so_far(service)
    assert not [line for line in service.lines[before : after - 1] if " 200 " not in line]


@pytest.mark.parametrize("leave", [hang_up, say_goodbye])
def test_a_client_that_goes_while_sending_is_counted_there(leave: object, service: Server) -> None:
    before = metric(service, GONE_WHILE_SENDING)
    connection = service.connect()
    connection.sendall(head_of_upload(1000))
    assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    connection.sendall(IMAGE[:10])
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
        ahead.sendall(post(image(GREEN)))
        server.wait_for(A_RUN_HAS_BEGUN, runs + 1)
        leaving.sendall(post(image(BLUE)))
        until(lambda: metric(server, "mixer_queue_depth") == 1)
        assert callable(leave)
        leave(leaving)
        until(lambda: metric(server, GONE_WHILE_QUEUED) == gone + 1)
        assert metric(server, "mixer_queue_depth") == 0
        server.signal(signal.SIGUSR1)
        assert Reader(ahead).answer().label == "green"
    assert server.lines.count(A_RUN_HAS_BEGUN + "\n") == runs + 1
    assert metric(server, CLASSIFIED) == classified + 1


def test_a_client_that_goes_while_its_picture_runs_is_counted_and_the_instance_goes_on(one_at_a_time: Server) -> None:
    server = one_at_a_time
    runs = server.lines.count(A_RUN_HAS_BEGUN + "\n")
    all_gone, gone = metric(server, GONE), metric(server, GONE_WHILE_RUNNING)
    leaving = server.connect()
    leaving.sendall(post(image(BLUE)))
    server.wait_for(A_RUN_HAS_BEGUN, runs + 1)
    hang_up(leaving)
    until(lambda: metric(server, GONE_WHILE_RUNNING) == gone + 1)
    assert metric(server, GONE) == all_gone + 1
    assert metric(server, "mixer_in_flight") == 0
    with server.connect() as next_one:
        next_one.sendall(post(image(GREEN)))
        server.signal(signal.SIGUSR1)
        server.wait_for(A_RUN_HAS_BEGUN, runs + 2)
        server.signal(signal.SIGUSR1)
        assert Reader(next_one).answer().label == "green"


@pytest.mark.parametrize("leave", [hang_up, say_goodbye])
def test_of_requests_sent_ahead_by_a_client_that_goes_none_is_begun(leave: object, one_at_a_time: Server) -> None:
    server = one_at_a_time
    runs = server.lines.count(A_RUN_HAS_BEGUN + "\n")
    never_begun, under_way = metric(server, GONE_WHILE_SENDING), metric(server, GONE_WHILE_RUNNING)
    with server.connect() as leaving:
        leaving.sendall(post(image(BLUE)) + batch(IMAGE) + post(IMAGE))
        server.wait_for(A_RUN_HAS_BEGUN, runs + 1)
        assert callable(leave)
        leave(leaving)
        until(lambda: metric(server, GONE_WHILE_RUNNING) == under_way + 1)
        assert metric(server, GONE_WHILE_SENDING) == never_begun + 2
    server.signal(signal.SIGUSR1)
    with server.connect() as next_one:
        next_one.sendall(post(image(GREEN)))
        server.wait_for(A_RUN_HAS_BEGUN, runs + 2)
        server.signal(signal.SIGUSR1)
        assert Reader(next_one).answer().label == "green"
    assert server.lines.count(A_RUN_HAS_BEGUN + "\n") == runs + 2


def test_a_client_that_goes_is_missed_however_large_what_it_sent_was(one_at_a_time: Server) -> None:
    """Its last piece is more than the service reads unasked."""
    server = one_at_a_time
    runs, gone = server.lines.count(A_RUN_HAS_BEGUN + "\n"), metric(server, GONE_WHILE_RUNNING)
    payload = saved(noise(230), "PNG")
    leaving = server.connect()
    leaving.sendall(head_of_upload(len(payload)))
    assert read_until(leaving, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    leaving.sendall(payload)
    server.wait_for(A_RUN_HAS_BEGUN, runs + 1)
    hang_up(leaving)
    until(lambda: metric(server, GONE_WHILE_RUNNING) == gone + 1)
    server.signal(signal.SIGUSR1)
    server.wait_for("mixer.access POST /classify 499")


def test_of_requests_sent_ahead_of_junk_none_is_answered_and_none_is_an_error(one_at_a_time: Server) -> None:
    server = one_at_a_time
    lines, gone = lines_so_far(server), metric(server, GONE)
    with server.connect() as connection:
        connection.sendall(post(image(BLUE)) * 2 + b"\0junk\r\n\r\n")
        reader = Reader(connection)
        assert reader.answer().status == 400
        assert reader.ended()
    until(lambda: metric(server, "mixer_in_flight") == 0)
    runs = server.lines.count(A_RUN_HAS_BEGUN + "\n")
    with server.connect() as next_one:
        next_one.sendall(post(image(GREEN)))
        server.wait_for(A_RUN_HAS_BEGUN, runs + 1)
        server.signal(signal.SIGUSR1)
        assert Reader(next_one).answer().label == "green"
    assert metric(server, GONE) <= gone + 1
    assert not [line for line in server.lines[lines:] if "ERROR" in line or "Traceback" in line]


# --- the last request of a connection ---


@pytest.fixture(scope="module")
def full(bundle: Path) -> Iterator[Server]:
    """A service with room for one picture, which is taken for as long as the tests of it last."""
    patience = ("--watchdog-s", "3600", "--request-timeout-s", "3600")
    with gated(bundle, "--queue-capacity", "1", "--max-images-per-request", "1", *patience) as running:
        running.wait_until_serving()
        with running.connect() as inside:
            inside.sendall(post(IMAGE))
            running.wait_for(A_RUN_HAS_BEGUN)
            yield running


@pytest.mark.parametrize(
    "version", [b"HTTP/1.1\r\nConnection: close", b"HTTP/1.1\r\nExpect: 100-continue", b"HTTP/1.0"]
)
def test_who_sends_no_other_request_and_is_refused_is_let_go_and_not_cut_off(version: bytes, full: Server) -> None:
    body = bytes(3_000_000)
    with full.connect() as connection:
        connection.sendall(post(body).replace(b"HTTP/1.1", version).removesuffix(body))
        reader = Reader(connection)
        answer = reader.answer()
        assert (answer.status, answer.code) == (429, "queue_full")
        assert reader.ended()
        connection.sendall(body)  # a reset would be an error here
        until(lambda: _connections_of(full) == 1)


@pytest.mark.parametrize("version", [b"HTTP/1.1\r\nConnection: close", b"HTTP/1.0"])
@pytest.mark.parametrize(
    ("kind", "length", "status"), [(b"image/png", 30_000_000, 413), (b"text/plain", 3_000_000, 415)]
)
def test_who_reads_only_when_all_is_sent_gets_an_early_answer_too(
    version: bytes, kind: bytes, length: int, status: int, service: Server
) -> None:
    body = bytes(length)
    line = f"mixer.access POST /classify {status}"
    before = sum(line in one for one in service.lines)
    with service.connect() as connection:
        head = post(body, content_type=kind).replace(b"HTTP/1.1", version).removesuffix(body)
        connection.sendall(head)
        service.wait_for(line, before + 1)
        connection.sendall(body)
        assert Reader(connection).answer().status == status
    until(lambda: _connections_of(service) == 0)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command makes a certificate here")
def test_all_of_that_holds_over_tls(bundle: Path, tmp_path: Path) -> None:
    """Where one direction of a connection cannot be closed alone, and the loop reads on by itself."""
    own = certificate(tmp_path, "own")
    trust = ssl.create_default_context(cafile=str(own.cert))
    with gated(bundle, "--tls-cert-file", str(own.cert), "--tls-key-file", str(own.key)) as server:
        server.wait_until_serving()
        with trust.wrap_socket(server.connect(), server_hostname="127.0.0.1") as early:
            body = bytes(30_000_000)
            early.sendall(post(body, b"Connection: close").removesuffix(body))
            server.wait_for("mixer.access POST /classify 413")
            early.sendall(body)
            reader = Reader(early)
            assert reader.answer().status == 413
            assert reader.ended()
        leaving = trust.wrap_socket(server.connect(), server_hostname="127.0.0.1")
        leaving.sendall(post(IMAGE) * 3)
        server.wait_for(A_RUN_HAS_BEGUN)
        socket.socket.shutdown(leaving, socket.SHUT_WR)
        server.wait_for("mixer.access POST /classify 499")
        leaving.close()
        server.signal(signal.SIGUSR1)
        with trust.wrap_socket(server.connect(), server_hostname="127.0.0.1") as next_one:
            next_one.sendall(post(image(GREEN)))
            server.wait_for(A_RUN_HAS_BEGUN, 2)
            server.signal(signal.SIGUSR1)
            assert Reader(next_one).answer().label == "green"
        assert server.lines.count(A_RUN_HAS_BEGUN + "\n") == 2


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
        slow.sendall(IMAGE[:10])
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
        trickling.sendall(b"POST /classify HTTP/1.1\r\nHost: service\r\nX: ")
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
    assert ask(impatient, post(IMAGE)).status == 503
    for connection in idle:
        assert Reader(connection).ended()
        connection.close()
    expect_service(impatient)


def test_a_flood_of_connections_waits_for_a_service_that_is_busy_and_both_workers_take_of_it(bundle: Path) -> None:
    count = min(600, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    with (
        served(bundle, "--workers", "2", "--instances", "1", "--queue-capacity", "64") as server,
        ExitStack() as opened,
    ):
        server.wait_until_serving(2)
        workers = [int(pid) for pid in server.wait_for(STARTED, 2)]
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        connections = [opened.enter_context(server.connect()) for _ in range(count)]  # the system alone lets them in
        for connection in connections:
            connection.sendall(post(IMAGE))
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
        statuses = Counter(Reader(connection).answer().status for connection in connections)
        taken = Counter(owners(connections, workers))
    assert statuses[200] + statuses[429] == count, statuses
    assert min(taken[worker] for worker in workers) > count / 4, taken


# --- waiting ---


@pytest.fixture
def hurried(bundle: Path) -> Iterator[Server]:
    """Every run waits for a signal and has two pictures at most, and an answer may take a second or so."""
    with gated(
        bundle, "--max-batch-size", "2", "--request-timeout-s", f"{slowness_at_first()}", "--watchdog-s", "600"
    ) as running:
        running.wait_until_serving()
        yield running


def test_what_waits_longer_than_it_may_gets_504_and_is_not_run(hurried: Server) -> None:
    with ExitStack() as connections:
        ahead, waiting, hurrying = (connections.enter_context(hurried.connect()) for _ in range(3))
        ahead.sendall(post(image(GREEN)))
        hurried.wait_for(A_RUN_HAS_BEGUN)
        waiting.sendall(post(IMAGE))
        hurrying.sendall(post(IMAGE, b"X-Request-Timeout-Ms: 100"))
        for one in (hurrying, waiting, ahead):
            answer = Reader(one).answer()
            assert (answer.status, answer.code) == (504, "deadline_passed")
    hurried.signal(signal.SIGUSR1)
    with hurried.connect() as next_one:
        next_one.sendall(post(image(GREEN)))
        hurried.wait_for(A_RUN_HAS_BEGUN, 2)
        hurried.signal(signal.SIGUSR1)
        assert Reader(next_one).answer().label == "green"
    assert hurried.lines.count(A_RUN_HAS_BEGUN + "\n") == 2


def test_pictures_are_decoded_while_the_instance_is_busy_and_no_run_has_more_than_it_may(bundle: Path) -> None:
    with gated(bundle, "--max-batch-size", "2", "--decode-threads", "1", "--watchdog-s", "600") as server:
        server.wait_until_serving()
        with ExitStack() as connections:
            clients = [connections.enter_context(server.connect()) for _ in range(6)]
            clients[0].sendall(post(image(GREEN)))
            server.wait_for(A_RUN_HAS_BEGUN)
            for client in clients[1:]:
                client.sendall(post(IMAGE))
            until(lambda: metric(server, "mixer_queue_depth") == 5)  # decoded, all of them
            for run in range(1, 5):
                server.wait_for(A_RUN_HAS_BEGUN, run)
                server.signal(signal.SIGUSR1)
            assert [Reader(client).answer().label for client in clients] == ["green", *["red"] * 5]
        assert server.lines.count(A_RUN_HAS_BEGUN + "\n") == 4  # of one, two, two and one


def test_a_full_service_says_when_to_come_again(full: Server) -> None:
    for path in ("/classify", "/classify/batch"):
        url = f"http://127.0.0.1:{full.port}{path}"
        form = {"Content-Type": FORM.decode()}
        request = urllib.request.Request(url, part(IMAGE) + END, form)
        with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request, timeout=PATIENCE_S):
            pass
        with refused.value as answer:
            assert answer.status == 429
            assert int(answer.headers["Retry-After"]) >= 1


# --- wrong ---

LENGTH = b"Content-Length: %d"
LIES = {
    "a length too short": (post(IMAGE, LENGTH % (len(IMAGE) - 20)), 400),
    "a length too long": (post(IMAGE, LENGTH % (len(IMAGE) + 20)), 504),
    "a length below zero": (post(IMAGE, b"Content-Length: -5"), 400),
    "a length beyond all": (post(IMAGE, b"Content-Length: 99999999999999999999999999"), 400),
    "a length of a gigabyte": (post(IMAGE, LENGTH % (1 << 30)), 413),
    "two lengths": (post(IMAGE, LENGTH % len(IMAGE), LENGTH % 6), 400),
    "a length and chunks": (post(in_chunks(IMAGE, 50), LENGTH % 5, CHUNKED), 400),
    "chunks that are none": (post(b"zz\r\n" + IMAGE, CHUNKED), 400),
    "chunks that never end": (post(in_chunks(IMAGE, 50)[:-5], CHUNKED), 504),
    "a length after chunks": (post(in_chunks(IMAGE, 50), CHUNKED, LENGTH % 5), 400),
    "an unknown coding": (post(IMAGE, b"Transfer-Encoding: gzip"), 501),
    "an unknown coding in chunks": (post(in_chunks(IMAGE, 50), b"Transfer-Encoding: gzip, chunked"), 501),
    "chunks of HTTP/1.0": (post(in_chunks(IMAGE, 50), CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    "no host": (post(IMAGE).replace(b"Host: service\r\n", b""), 400),
    "two hosts": (post(IMAGE, b"Host: service"), 400),
    "a host that is none": (post(IMAGE).replace(b"Host: service", b"Host: a/b@c"), 400),
    "a body that is packed": (post(IMAGE, b"Content-Encoding: gzip"), 415),
    "a picture called text": (post(IMAGE, content_type=b"text/plain"), 415),
    "a picture called a form": (post(IMAGE, content_type=FORM), 400),
    "a form called a picture": (post(part(IMAGE) + b"--XX--\r\n"), 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a proxy's request": (b"CONNECT example.com:443 HTTP/1.1\r\n\r\n", 400),
    "a path that is no text": (b"GET /\xff\xfe HTTP/1.1\r\nHost: service\r\n\r\n", 400),
}


@pytest.mark.parametrize(("request_bytes", "status"), LIES.values(), ids=LIES.keys())
def test_a_lie_is_answered_with_a_fault_of_the_clients(request_bytes: bytes, status: int, impatient: Server) -> None:
    assert ask(impatient, request_bytes).status == status
    expect_service(impatient)


OFFER = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
HIDDEN = b"GET /model HTTP/1.1\r\nHost: service\r\n\r\n"


@pytest.mark.parametrize("offer", [OFFER, (b"Connection: upgrade", b"Upgrade: websocket")], ids=["h2c", "websocket"])
@pytest.mark.parametrize("method", [b"POST", b"GET", b"PUT", b"DELETE", b"OPTIONS"])
@pytest.mark.parametrize("pause", [False, True])
def test_a_body_behind_an_offer_of_another_protocol_is_no_request(
    *, offer: tuple[bytes, ...], method: bytes, pause: bool, service: Server
) -> None:
    """Each request has one answer, and there are no others."""
    before = lines_so_far(service)
    requests = [
        post(HIDDEN, *offer),
        post(in_chunks(HIDDEN, 7), CHUNKED, *offer),
        post(b"", *offer),
        post(HIDDEN, *offer, path=b"/health/live"),
    ]
    requests = [request.replace(b"POST", method, 1) for request in requests]
    with service.connect() as connection:
        reader = Reader(connection)
        for request in requests:
            head, end, body = request.partition(b"\r\n\r\n")
            connection.sendall(head + end)
            if pause:  # until it has certainly been read without its body
                expect_service(service)
            connection.sendall(body + post(IMAGE, *offer))
            assert reader.answer().status in (200, 400, 405)
            assert reader.answer().label == "red"
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n")
        assert reader.answer().status == 200
        assert reader.ended()
    written = service.lines[before : lines_so_far(service)]
    assert not [line for line in written if "WARNING" in line or "/model" in line]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_body_in_chunks_needs_no_length(size: int, service: Server) -> None:
    assert ask(service, post(in_chunks(IMAGE, size), CHUNKED)).label == "red"


@pytest.mark.parametrize("content", [bytes(1_000_000), IMAGE * 20])
def test_a_body_in_absurdly_many_chunks_is_refused(content: bytes, service: Server) -> None:
    before = usage(pid_of(service)).cpu_s
    assert ask(service, post(in_chunks(content, 1), CHUNKED)).status in (400, 0)
    assert is_within(usage(pid_of(service)).cpu_s - before, 0.2)
    expect_service(service)


def test_thousands_of_requests_in_one_piece_are_refused(service: Server) -> None:
    assert ask(service, HIDDEN * 20_000).status in (200, 400, 0)
    expect_service(service)


def test_a_client_that_is_said_to_be_something_long_does_not_fill_the_log(bundle: Path) -> None:
    with served(bundle, "--workers", "1", "--log-format", "json") as server:
        server.wait_until_serving()
        for named in (b"x" * 50_000, b"192.0.2.7"):
            assert ask(server, post(IMAGE, b"X-Forwarded-For: " + named)).label == "red"
        server.wait_for('"192.0.2.7"')
        lines = [line for line in server.lines if "POST /classify 200" in line]
        assert '"127.0.0.1"' in lines[0]
        assert max(map(len, server.lines)) < 1000


ENDLESS = {
    "a header": post(b"", b"X: " + b"a" * 1_000_000),
    "headers": post(b"", *[b"X: a"] * 100_000),
    "a path": post(b"", path=b"/classify?" + b"a" * 1_000_000),
    "trailers": post(in_chunks(IMAGE, 50)[:-2] + b"X: a\r\n" * 200_000, CHUNKED),
    "a chunk's extension": post(b"5;" + b"a" * 1_000_000, CHUNKED),
}


@pytest.mark.parametrize("request_bytes", ENDLESS.values(), ids=ENDLESS.keys())
def test_headers_without_end_get_431(request_bytes: bytes, service: Server) -> None:
    assert ask(service, request_bytes).status in (431, 0)  # 0: it was still sending, and only saw the end
    expect_service(service)


def test_headers_of_ordinary_size_pass(service: Server) -> None:
    assert ask(service, post(IMAGE, *[b"Cookie: " + b"a" * 4000] * 8)).label == "red"


MALFORMED = {
    "no closing boundary": part(IMAGE),
    "cut off in a picture": part(IMAGE)[:-40],
    "cut off in a header": b"--XX\r\nContent-Disposition: form-data; na",
    "another boundary": part(IMAGE).replace(b"XX", b"YY") + b"--YY--\r\n",
    "no header": b"--XX\r\n\r\n" + IMAGE + b"\r\n" + END,
    "a header that is none": b"--XX\r\n\0\1\2\r\n\r\n" + IMAGE + b"\r\n" + END,
    "no name": part(IMAGE).replace(b' name="file";', b"") + END,
    "base64": part(b"YWJj").replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n") + END,
    "nothing": b"",
    "nothing but zeros": bytes(10_000),
}


@pytest.mark.parametrize("path", [b"/classify", b"/classify/batch"])
@pytest.mark.parametrize("form", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_form_gets_400_on_either_path(form: bytes, path: bytes, service: Server) -> None:
    answer = ask(service, post(form, path=path, content_type=FORM))
    assert (answer.status, answer.code) == (400, "bad_request")
    expect_service(service)


def test_a_form_without_a_picture_is_refused(service: Server) -> None:
    for form in (END, part(b"a note", b"note", None) + END, part(IMAGE, b"picture") + END):
        answer = ask(service, post(form, content_type=FORM))
        assert (answer.status, answer.code) == (422, "bad_parameter")
    assert ask(service, post(part(IMAGE) + END, content_type=b"multipart/form-data")).code == "bad_request"
    expect_service(service)


def test_a_form_of_thousands_of_parts_is_refused_early(service: Server) -> None:
    before = usage(pid_of(service)).cpu_s
    for piece in (part(IMAGE), part(b"a note", b"note", None)):
        form = piece * 50_000 + b"--XX--\r\n"
        answer = ask(service, post(form, path=b"/classify/batch", content_type=FORM))
        assert (answer.status, answer.code) in ((413, "too_many_bytes"), (422, "bad_parameter"), (0, ""))
    assert is_within(usage(pid_of(service)).cpu_s - before, 1)
    expect_service(service)


# --- greedy ---


def test_one_connection_serves_hundreds_of_requests_in_turn(service: Server) -> None:
    with service.connect() as connection:
        reader = Reader(connection)
        for _ in range(150):
            for color, label in ((RED, "red"), (BLUE, "blue")):
                connection.sendall(post(image(color)))
                assert reader.answer().label == label


def test_hundreds_of_requests_at_once_on_one_connection_are_answered_in_order(service: Server) -> None:
    colors = [(RED, "red"), (GREEN, "green"), (BLUE, "blue")] * 100
    with service.connect() as connection:
        reader = Reader(connection)
        connection.sendall(b"".join(post(image(color)) for color, _ in colors))
        assert [reader.answer().label for _ in colors] == [label for _, label in colors]


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
    leaving.sendall(batch(*[IMAGE] * 5))
    server.wait_for(A_RUN_HAS_BEGUN, runs + 1)
    until(lambda: metric(server, "mixer_queue_depth") == 4)
    hang_up(leaving)
    until(lambda: metric(server, GONE_WHILE_QUEUED) == queued + 4)
    assert metric(server, GONE_WHILE_RUNNING) == running + 1
    server.signal(signal.SIGUSR1)
    answers: list[Answer] = []
    with server.connect() as next_one:
        next_one.sendall(post(image(GREEN)))
        server.wait_for(A_RUN_HAS_BEGUN, runs + 2)  # and none for the four
        server.signal(signal.SIGUSR1)
        answers.append(Reader(next_one).answer())
    assert answers[0].label == "green"


def _connections_of(server: Server) -> int:
    """As the system counts them: those that the server has and the client has not closed."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    here = f":{server.port:04X}"
    return sum(fields[1].endswith(here) and fields[3] in ("01", "08") for fields in map(str.split, lines))
