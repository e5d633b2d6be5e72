"""benchmarks.overload: arrivals at their own times, what the client makes of answers, the arithmetic; and all of it."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import isnan
from pathlib import Path
from random import Random
from time import perf_counter

import pytest

from tests.pace import slowness_at_first

ROOT = Path(__file__).resolve().parents[2]

from benchmarks.overload import __main__ as overload  # noqa: E402
from benchmarks.overload import plots  # noqa: E402
from benchmarks.overload.client import BROKEN, Client  # noqa: E402
from benchmarks.overload.loops import Observed, OpenLoop, Terms, closed_loop  # noqa: E402
from benchmarks.overload.processor import Processor  # noqa: E402
from benchmarks.overload.requests import Request, Ticket, answers_rightly, requests_of  # noqa: E402
from benchmarks.overload.results import Load, Results, Retries, Round, Times, judged, times_of  # noqa: E402
from benchmarks.overload.tables import markdown  # noqa: E402
from benchmarks.serving.cells import Kind  # noqa: E402
from benchmarks.serving.client import Group, Plan  # noqa: E402
from benchmarks.serving.workloads import Answered, Workload  # noqa: E402
from tests.app.color_bundle import color_spec, write_bundle  # noqa: E402

pytestmark = pytest.mark.heavy

PROCESSOR = Processor([])
COAT = Request(b"POST /classify HTTP/1.1\r\nHost: service\r\nContent-Length: 4\r\n\r\ncoat", b'"coat"')
TERMS = Terms(seconds=0.3, lead_in_s=0.1, deadline_s=5.0, connections=2, retry_share=1.0, grace_s=0.2)

Reply = Callable[[bytes], Sequence[bytes] | None]


def answered(body: bytes = b'{"predictions":[{"label":"coat"}]}', status: int = 200, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d Word" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Toy(asyncio.Protocol):
    """Calls `reply` with what follows each head; sends the pieces one by one; None: hangs up; []: never answers."""

    def __init__(self, reply: Reply, opened: list[asyncio.Transport]) -> None:
        self._reply = reply
        self._opened = opened
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._opened.append(transport)

    def data_received(self, received: bytes) -> None:
        self._received += received
        while (start := self._received.find(b"\r\n\r\n") + 4) > 3:
            head = bytes(self._received[:start]).lower()
            end = start + int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            if len(self._received) < end:
                return
            body = bytes(self._received[start:end])
            del self._received[:end]
            self._answer(self._reply(body))

    def _answer(self, pieces: Sequence[bytes] | None) -> None:
        if pieces is None:
            self._transport.close()
            return
        loop = asyncio.get_running_loop()
        for number, piece in enumerate(pieces):
            if number:
                loop.call_later(0.005 * number, self._transport.write, piece)
            else:
                self._transport.write(piece)


@contextmanager
def toy(reply: Reply) -> Iterator[int]:
    """A server on a port, in a thread of its own."""
    loop = asyncio.new_event_loop()
    opened: list[asyncio.Transport] = []
    listening = loop.create_server(lambda: Toy(reply, opened), "127.0.0.1", 0, backlog=512)
    server = loop.run_until_complete(listening)
    port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(_close(server, opened))
        loop.close()


async def _close(server: asyncio.Server, opened: list[asyncio.Transport]) -> None:
    server.close()
    for _ in range(5):  # who has just been accepted is let in first
        await asyncio.sleep(0)
    for transport in opened:
        transport.abort()
    await server.wait_closed()
    await asyncio.sleep(0)


# --- the client ---


def heard_by(port: int, requests: Sequence[bytes], connections: int = 4) -> list[tuple[int, int, bytes]]:
    """Number, status and body of each answer, in the order of the requests."""
    found: list[tuple[int, int, bytes]] = []
    client = Client(port, lambda ticket, status, head, body: found.append((ticket, status, body)), connections)
    for number, request in enumerate(requests):
        assert client.send(number, request)
    until = perf_counter() + 10 * slowness_at_first()
    while client.outstanding and perf_counter() < until:
        client.poll(0.05)
    client.close()
    return sorted(found)


def request(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: service\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_an_answer_in_pieces_is_put_together_and_goes_to_its_own_request() -> None:
    def reply(body: bytes) -> list[bytes]:
        whole = answered(b"<" + body + b">")
        return [whole[:9], whole[9:40], whole[40:]]

    with toy(reply) as port:
        assert heard_by(port, [request(b"a"), request(b"bb"), request(b"c")]) == [
            (0, 200, b"<a>"), (1, 200, b"<bb>"), (2, 200, b"<c>"),
        ]  # fmt: skip


def test_a_body_larger_than_the_system_takes_at_once_arrives_whole() -> None:
    large = bytes(30_000_000)
    with toy(lambda body: [answered(b"%d" % len(body))]) as port:
        assert heard_by(port, [request(large)]) == [(0, 200, b"30000000")]


def test_a_connection_that_ends_in_place_of_an_answer_is_told() -> None:
    with toy(lambda body: None if body == b"leave" else [answered(body)]) as port:
        found = heard_by(port, [request(b"stay"), request(b"leave")])
    assert found == [(0, 200, b"stay"), (1, BROKEN, b"")]


def test_connections_are_kept_and_used_in_turn_but_not_after_connection_close() -> None:
    statuses: list[int] = []
    with toy(lambda body: [answered(body, 200, *([b"Connection: close"] if body == b"last" else []))]) as port:
        client = Client(port, lambda ticket, status, head, body: statuses.append(status), 3)
        for number, body in enumerate([b"a", b"b", b"last", b"c"]):
            assert client.send(number, request(body))
            while client.outstanding:
                client.poll(0.05)
            assert client.connections == (0 if body == b"last" else 1)
        assert statuses == [200] * 4
        client.close()


def test_no_more_connections_are_opened_than_allowed() -> None:
    with toy(lambda body: []) as port:
        client = Client(port, lambda *_: None, 2)
        assert [client.send(number, request(b"x")) for number in range(3)] == [True, True, False]
        client.close()


def test_the_first_label_of_an_answer_counts() -> None:
    body = b'{"model": {"name": "m"}, "predictions": [{"label": "T-shirt \\"x\\"/top"}, {"label": "coat"}]}'
    assert answers_rightly(body, b'"T-shirt \\"x\\"/top"')
    assert not answers_rightly(body, b'"coat"')
    assert not answers_rightly(b"{}", b'"coat"')


def test_a_request_is_made_once_with_its_deadline(tmp_path: Path) -> None:
    plan = Plan("/classify", "image/png", (Group("coat", (tmp_path / "x",)),))
    kind = Kind("28x28 PNG", "default", 28, 28, "PNG")
    workload = Workload(kind, ((Answered(b"bytes", "coat"),),), {"raw": plan})
    (made,) = requests_of(workload, "raw", 250)
    head, _, body = made.content.partition(b"\r\n\r\n")
    assert (body, made.mark) == (b"bytes", b'"coat"')
    assert {b"POST /classify HTTP/1.1", b"Content-Length: 5", b"X-Request-Timeout-Ms: 250"} <= set(head.split(b"\r\n"))


# --- the loops ---


def test_arrivals_are_due_at_random_times_of_their_rate_whatever_is_outstanding() -> None:
    terms = replace(TERMS, deadline_s=0.1)
    with toy(lambda body: []) as port:
        seen = OpenLoop(port, [COAT], 400, 100, terms, Random(1)).run(PROCESSOR)
    inside = [one for one in seen.tickets if seen.start <= one.due < seen.end]
    assert 80 <= len(inside) <= 165  # 120 on average
    gaps = [later.due - earlier.due for earlier, later in zip(seen.tickets, seen.tickets[1:], strict=False)]
    assert max(gaps) > 4 * sum(gaps) / len(gaps)  # no clockwork
    assert all(one.sent >= one.due and one.status == BROKEN for one in inside)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    def gaps(seed: int) -> list[float]:
        with toy(lambda body: [answered()]) as port:
            found = OpenLoop(port, [COAT], 300, 100, TERMS, Random(seed)).run(PROCESSOR).tickets
        return [round(one.due - found[0].due, 6) for one in found[:50]]

    assert gaps(3) == gaps(3) != gaps(4)


def test_requests_that_find_no_connection_wait_and_are_counted() -> None:
    terms = Terms(0.2, 0.05, 0.1, 1, most_connections=1, grace_s=0.2)
    with toy(lambda body: [b"", b"", answered()]) as port:  # 10 ms each
        seen = OpenLoop(port, [COAT], 400, 400, terms, Random(1)).run(PROCESSOR)
    assert seen.held > 10
    load = judged(seen, 4.0, 0.1)
    assert any("had to wait for a connection" in fault for fault in load.faults)
    assert load.lateness.p99_ms > 20


@pytest.mark.parametrize("wait_s", [0, 1])
def test_the_refused_come_again_once_after_retry_after(wait_s: int) -> None:
    refusals = Random(5)

    def reply(body: bytes) -> list[bytes]:
        if refusals.random() < 0.3:
            return [answered(b"", 429, b"Retry-After: %d" % wait_s)]
        return [answered()]

    with toy(reply) as port:
        seen = OpenLoop(port, [COAT], 100, 50, replace(TERMS, seconds=0.9), Random(1)).run(PROCESSOR)
    refused = [one for one in seen.tickets if one.status == 429 and one.due < seen.end]
    assert len(seen.retries) == len(refused) > 5
    for one in seen.retries:
        assert one.first is not None
        assert one.due == one.first.done + wait_s
        assert one.status in (200, 429)
    load = judged(seen, 4.0, 5.0)
    assert 0.4 < load.retries.share < 1
    assert load.retries.during + load.retries.after == len(seen.retries)
    assert (load.retries.during > 0) == (wait_s == 0)


def test_refused_without_retry_after_is_counted_and_nobody_comes_again() -> None:
    with toy(lambda body: [answered(b"", 503)]) as port:
        seen = OpenLoop(port, [COAT], 200, 50, TERMS, Random(1)).run(PROCESSOR)
    load = judged(seen, 4.0, 0.1)
    assert not seen.retries
    assert load.retries.without_header == sum(load.refusals.values()) > 0
    assert isnan(load.retries.share)


def test_a_closed_loop_waits_for_answers_and_counts_right_ones() -> None:
    now = 100.0

    def reply(body: bytes) -> list[bytes]:
        nonlocal now
        now += 0.005  # time passes here only: one answer is made at a time
        return [answered()]

    with toy(reply) as port:
        seen = closed_loop(port, [COAT], TERMS, Random(1), PROCESSOR, clock=lambda: now)
    load = judged(seen, 0.0, 5.0)
    assert load.faults == ()
    assert 190 < load.goodput_s < 210
    assert 5 <= round(load.accepted.p50_ms, 6) <= 10
    assert all(one.sent == one.due for one in seen.tickets)


# --- what it comes to ---


def ticket(due: float, done: float, status: int = 200, *, right: bool = True, sent: float | None = None) -> Ticket:
    one = Ticket(COAT, due)
    one.sent, one.done, one.status, one.right = due if sent is None else sent, done, status, right
    return one


def test_goodput_is_right_answers_in_time_that_came_in_the_window() -> None:
    tickets = [
        ticket(9.95, 10.05),  # was due before the window, came in it
        ticket(10.1, 10.15),
        ticket(10.1, 10.5),  # late
        ticket(10.2, 10.25, right=False),
        ticket(10.3, 10.31, 429, right=False),
        ticket(11.95, 12.05),  # came after it
    ]
    load = judged(Observed(10.0, 12.0, tickets), 2.0, 0.2)
    assert load.goodput_s == 2 / 2
    assert load.offered_s == 5 / 2
    assert load.accepted_s == 4 / 2
    assert (load.late, load.wrong, load.refusals) == (1, 1, {429: 1})
    assert load.refused.p50_ms == pytest.approx(10)
    assert load.faults == ("1 wrong",)


def test_latency_is_from_when_a_request_was_due_not_sent() -> None:
    load = judged(Observed(0.0, 1.0, [ticket(0.1, 0.3, sent=0.25)]), 1.0, 1.0)
    assert load.accepted.p50_ms == pytest.approx(200)
    assert load.lateness.p50_ms == pytest.approx(150)
    assert load.faults == ("the client sent 150 ms late (p99), more than 50",)


def test_other_statuses_and_broken_connections_are_faults_and_refusals_are_not() -> None:
    tickets = [ticket(0.1, 0.2, 500, right=False), ticket(0.1, 0.2, 504), ticket(0.1, 0.2, 503), ticket(0.1, 0.2, 0)]
    load = judged(Observed(0.0, 1.0, tickets), 1.0, 1.0)
    assert load.refusals == {503: 1, 504: 1}
    assert load.faults == ("1 without an answer", "1 with status 500")


def test_percentiles_of_nothing_are_no_numbers() -> None:
    assert isnan(times_of([]).p99_ms)


def load_of(times: float, goodput_s: float, **changes: object) -> Load:
    fast = Times(1.0, 2.0, 3.0, 4.0)
    fields = {
        "times": times, "offered_s": 100 * times, "accepted_s": goodput_s, "goodput_s": goodput_s, "accepted": fast,
        "refused": fast, "refusals": {429: 7}, "late": 0, "wrong": 0, "failed": {}, "broken": 0,
        "retries": Retries(10, 9, 10, 8, 0), "lateness": fast, "held": 0, "client_cpus": 0.1, "server_cpus": 1.5,
        "faults": (),
    }  # fmt: skip
    return Load(**{**fields, **changes})


def results_of(*goodputs: float, **changes: object) -> Results:
    rounds = [
        Round("28x28 PNG", number, load_of(0.0, 100.0), (load_of(1.0, 90.0), load_of(4.0, goodput, **changes)))
        for number, goodput in enumerate(goodputs)
    ]
    return Results(rounds, {"28x28 PNG": 250.0}, cpus=2)


def test_shares_are_taken_of_the_best_goodput_of_the_round() -> None:
    found = results_of(96.0, 97.0, 125.0)
    assert found.share("28x28 PNG", 4.0).rounds == (0.96, 0.97, 1.0)
    assert found.share("28x28 PNG", 1.0).rounds == (0.9, 0.9, 90 / 125)


def test_what_the_client_takes_may_be_made_up_for() -> None:
    found = results_of(76.0, client_cpus=0.575)
    assert found.made_up_share("28x28 PNG", 4.0).median == pytest.approx(76 / 100 * 1.9 / 1.425)


def test_aims_are_judged_at_the_highest_load() -> None:
    assert [aim.is_met for aim in results_of(96.0).aims("28x28 PNG")] == [True, True, True, True]
    slow = Times(6.0, 7.0, 251.0, 300.0)
    poor = results_of(94.0, accepted=slow, refused=slow, retries=Retries(5, 5, 5, 1, 0))
    assert [aim.is_met for aim in poor.aims("28x28 PNG")] == [False] * 4
    none = results_of(100.0, refused=times_of([]), retries=Retries(0, 0, 0, 0, 0))
    assert [aim.is_met for aim in none.aims("28x28 PNG")] == [True, True, False, False]


def test_the_tables_say_what_was_reached_and_what_does_not_count(tmp_path: Path) -> None:
    found = results_of(96.0, 96.0, faults=("the client sent 9 ms late (p99), more than 5",))
    text = markdown({"processor": "a fast one"}, found)
    assert "- processor: a fast one" in text
    assert "| goodput at 4 times the capacity, of the peak | 0.96 | at least 0.95 | yes |" in text
    assert "85% of 40 (90% of 20 / 80% of 20)" in text
    assert "- 28x28 PNG, round 2, 4 times the capacity: the client sent 9 ms late (p99), more than 5" in text
    assert plots.draw(found, tmp_path) == [tmp_path / "overload-28x28-png.png"]
    assert (tmp_path / "overload-28x28-png.png").read_bytes().startswith(b"\x89PNG")


# --- the whole of it ---


def test_flags_left_out_depend_on_quick() -> None:
    full, quick = overload.parsed([]), overload.parsed(["--quick"])
    assert (full.rounds, full.seconds, full.loads) == (3, 10.0, [0.5, 1.0, 2.0, 4.0])
    assert (quick.rounds, quick.seconds) == (1, 1.0)


@pytest.mark.parametrize("flags", [["--loads", "0"], ["--retry-share", "2"], ["--set", "MIXER_WORKERS"]])
def test_impossible_flags_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        overload.parsed(flags)
    assert "--" in capsys.readouterr().err


@pytest.mark.process
def test_this_service_is_overloaded_from_start_to_table(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", color_spec())
    command = [
        sys.executable, "-m", "benchmarks.overload", "--quick", "--seconds", "1", "--loads", "0.5", "2",
        "--retry-share", "0", "--workloads", "8x8", "--bundle", str(bundle), "--cache", str(tmp_path),
        "--out", str(tmp_path / "out"), "--deadline-ms", "500", "--set", "MIXER_INSTANCES=1", "MIXER_QUEUE_CAPACITY=64",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXER_")}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100 * slowness_at_first(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "out" / "overload.json").read_text())
    (one,) = content["rounds"]
    assert one["capacity"]["goodput_s"] > 20 / slowness_at_first()
    half, double = one["loads"]
    assert 0.3 < half["offered_s"] / one["capacity"]["goodput_s"] < 0.7
    assert double["offered_s"] > 1.3 * one["capacity"]["goodput_s"]
    for load in (one["capacity"], half, double):
        assert load["wrong"] == 0
        assert load["failed"] == {}
        assert 0 < load["client_cpus"] < 2
    assert (tmp_path / "out" / "overload.md").read_text() == done.stdout.rstrip("\n") + "\n"
    assert (tmp_path / "out" / "overload-8x8-png.png").stat().st_size > 10_000
