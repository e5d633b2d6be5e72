"""A file whose decoding does not end: its process does, other workers serve, and readiness knows.

The decoder is the real one, except of two kinds of files: "free" burns as a decoder in C does, "held" as one that keeps
the interpreter's lock.
"""

import os
import re
import shutil
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.app.color_bundle import GREEN, RED, color_spec, image, write_bundle
from tests.app.fakes import samples_of
from tests.app.servers import SERVING, STARTED, Server, altered, connected_to_all, owners, until
from tests.faults.test_dying_processes import is_refused, log_of, outcomes_of, under_load
from tests.faults.wire import Reader, ask, post, served

pytestmark = pytest.mark.process

ENDLESS = """
import hashlib, re
from app.inference import classifier

def decode(payload, *rest, real=classifier.decode):
    if b"free" in payload:
        block = bytes(1 << 20)
        while True:
            hashlib.sha256(block)
    if b"held" in payload:
        re.match(r"(a+)+$", "a" * 100 + "b")
    return real(payload, *rest)

classifier.decode = decode

def altered(worker, engine, create):
    return create()
"""
IN_RUN = b"\xff\xd8\xff %b \xff\xd9"  # looks like a small JPEG, which the thread of its run decodes
LIMIT = ("--decode-cpu-limit-s", "1")
READY = b"GET /health/ready HTTP/1.1\r\nHost: service\r\n\r\n"


def endless(bundle: Path, workers: int, *flags: str) -> Server:
    return altered(ENDLESS, bundle, "--workers", str(workers), *LIMIT, *flags)


def connected(running: Server, opened: ExitStack) -> tuple[list[socket.socket], list[int]]:
    """Connections to both workers, and the process at the other end of each."""
    running.wait_until_serving(workers=2)
    pids = [int(pid) for pid in running.wait_for(STARTED, 2)]
    connections = connected_to_all(running.port, pids, 8)
    for connection in connections:
        opened.enter_context(connection)
    return connections, owners(connections, pids)


def test_of_two_workers_the_one_that_decodes_without_end_is_replaced_and_no_client_notices(bundle: Path) -> None:
    with endless(bundle, 2) as running, running.connect() as hostile:
        running.wait_until_serving(workers=2)
        loads = under_load(running, 8)
        hostile.sendall(post(b"free"))
        answer = Reader(hostile).answer()
        assert (answer.status, answer.code) == (400, "bad_picture")
        assert "takes more than 1 s of processor time, the most expected." in answer.json["detail"]
        (number,) = running.wait_for(r"worker (\d) \(process \d+\) ended with exit code 1, and is replaced")
        running.wait_for(SERVING, 3)
        seen = sum(load.outcomes["right"] for load in loads)
        until(lambda: sum(load.outcomes["right"] for load in loads) > seen + 80)
        outcomes = outcomes_of(loads)
        assert set(outcomes) == {"right"}
        samples = samples_of(running.get("/metrics"))
        assert samples["mixer_decode_overruns_total"] == 1
        assert samples["mixer_worker_restarts_total"] == 1
        (line,) = log_of(running, "mixer.overruns")
        assert re.search(
            r"a picture of 4 bytes has been decoded for 1\.\d s of processor time, of 1 s that it may", line
        )
        assert not log_of(running, rf" worker {1 - int(number)} \(process|Traceback")


def test_one_that_is_decoded_in_its_run_costs_its_worker_and_the_others_there_are_told(bundle: Path) -> None:
    with endless(bundle, 2) as running, running.connect() as hostile:
        running.wait_until_serving(workers=2)
        loads = under_load(running, 8)
        hostile.sendall(post(IN_RUN % b"free"))
        answer = Reader(hostile).answer()
        assert (answer.status, answer.code) == (400, "bad_picture")
        assert "takes more than 1 s of processor time, the most expected." in answer.json["detail"]
        running.wait_for(r"worker (\d) \(process \d+\) ended with exit code 1, and is replaced")
        running.wait_for(SERVING, 3)
        seen = sum(load.outcomes["right"] for load in loads)
        until(lambda: sum(load.outcomes["right"] for load in loads) > seen + 80)
        assert set(outcomes_of(loads)) <= {"right", "503"}  # nobody is left without an answer
        assert samples_of(running.get("/metrics"))["mixer_decode_overruns_total"] == 1
        assert not log_of(running, "Traceback")


def test_one_that_keeps_the_lock_in_its_run_is_killed_once_it_has_had_its_processor_time(bundle: Path) -> None:
    with endless(bundle, 2) as running, running.connect() as hostile:
        running.wait_until_serving(workers=2)
        hostile.sendall(post(IN_RUN % b"held"))
        running.wait_for("a picture has been decoded for")
        running.wait_for(r"worker (\d) \(process \d+\) was ended by SIGKILL, and is replaced")
        running.wait_for(SERVING, 3)


def test_while_a_worker_ends_for_that_the_service_is_ready(bundle: Path) -> None:
    with endless(bundle, 2) as running, ExitStack() as opened:
        connections, holders = connected(running, opened)
        connections[0].sendall(post(b"free"))
        running.wait_for("this process ends")
        other = next(one for one, pid in zip(connections, holders, strict=True) if pid != holders[0])
        assert _on(other, READY)[0] == 200
        with running.connect() as newcomer:  # who comes now is not given to the one that ends
            assert _on(newcomer, post(image(RED)))[0] == 200
        same = next(one for one, pid in zip(connections[1:], holders[1:], strict=True) if pid == holders[0])
        until(lambda: _on(same, post(image(GREEN))) == (200, True))  # answered, and sent elsewhere with an answer
        running.wait_for("ended with exit code 1, and is replaced")


def _on(connection: socket.socket, request: bytes) -> tuple[int, bool]:
    """The status of the answer, and whether it ends the connection."""
    connection.sendall(request)
    reader = Reader(connection)
    return reader.answer().status, reader.closes


def test_of_two_workers_the_one_whose_decoder_keeps_the_lock_is_killed_and_the_other_serves(bundle: Path) -> None:
    with endless(bundle, 2) as running, ExitStack() as opened:
        connections, holders = connected(running, opened)
        other = next(one for one, pid in zip(connections, holders, strict=True) if pid != holders[0])
        connections[0].sendall(post(b"held"))
        assert _on(other, post(image(RED)))[0] == 200
        running.wait_for(
            rf"\(process {holders[0]}\): a picture has been decoded for [\d.]+ s of processor time, of 1 s"
        )
        running.wait_for(rf"\(process {holders[0]}\) was ended by SIGKILL, and is replaced")
        assert _on(other, post(image(RED)))[0] == 200
        running.wait_for(SERVING, 3)
        assert samples_of(running.get("/metrics"))["mixer_decode_overruns_total"] == 1


def test_that_a_workers_event_loop_stands_still_the_others_readiness_tells(bundle: Path) -> None:
    with altered(ENDLESS, bundle, "--workers", "2") as running, ExitStack() as opened:
        connections, holders = connected(running, opened)
        other = next(one for one, pid in zip(connections, holders, strict=True) if pid != holders[0])
        os.kill(holders[0], signal.SIGSTOP)

        def told() -> bool:
            other.sendall(READY)
            answer = Reader(other).answer()
            return answer.status == 503 and re.search(rb"Worker \d: Its event loop has stood still for 4", answer.body)

        until(told)
        os.kill(holders[0], signal.SIGCONT)
        until(lambda: _on(other, READY)[0] == 200)


def test_a_service_of_one_process_tells_and_ends_with_an_error_after_the_answers_of_others(bundle: Path) -> None:
    with endless(bundle, 1, "--decode-threads", "1") as running, running.connect() as hostile, ExitStack() as opened:
        running.wait_until_serving()
        hostile.sendall(post(b"free"))
        others = [opened.enter_context(running.connect()) for _ in range(4)]  # whose pictures wait behind it
        for other in others:
            other.sendall(post(image(GREEN)))
        probe = opened.enter_context(running.connect())
        running.wait_for("this process ends")
        probe.sendall(READY)
        answer = Reader(probe).answer()
        assert answer.status == 503
        assert answer.json["detail"].startswith("Decoding a picture takes more than 1 s of processor time, ")
        assert [Reader(other).answer().label for other in others] == ["green"] * 4
        assert running.exit_code() == 1


def test_a_service_of_one_process_whose_decoder_keeps_the_lock_ends_with_an_error(bundle: Path) -> None:
    with endless(bundle, 1, "--watchdog-s", "3") as running, running.connect() as hostile:
        running.wait_until_serving()
        hostile.sendall(post(b"held"))
        assert running.exit_code() == 1
        assert log_of(running, r"^Timeout \(0:00:04\)!")
        assert log_of(running, r'File ".*", line \d+ in decode')  # where it stood


@pytest.mark.parametrize("workers", [1, 2])
def test_told_to_stop_while_it_decodes_without_end_it_ends_as_a_success(workers: int, bundle: Path) -> None:
    flags = ["--decode-cpu-limit-s", "1000", "--drain-timeout-s", "0.2"]
    with altered(ENDLESS, bundle, "--workers", str(workers), *flags) as running, running.connect() as hostile:
        running.wait_until_serving(workers)
        hostile.sendall(post(b"free"))
        until(lambda: samples_of(running.get("/metrics"))["mixer_in_flight"] == 1)
        running.signal(signal.SIGTERM)
        assert Reader(hostile).answer().status == 503
        assert running.exit_code() == 0
        assert not log_of(running, "Traceback")


# --- workers that cannot start again ---


def test_a_worker_that_cannot_start_again_is_told_by_the_other_until_it_can(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "colours", color_spec())
    with served(bundle, "--instances", "1", "--workers", "2") as running, ExitStack() as opened:
        connections, holders = connected(running, opened)
        other = next(one for one, pid in zip(connections, holders, strict=True) if pid != holders[0])
        shutil.move(bundle, tmp_path / "elsewhere")
        os.kill(holders[0], signal.SIGKILL)
        (number,) = running.wait_for(r"worker (\d): It cannot start again")
        other.sendall(READY)
        answer = Reader(other).answer()
        assert answer.status == 503
        words = f"Worker {number}: It cannot start again: The bundle {bundle} does not exist; expected a folder "
        assert answer.json["detail"].startswith(words)
        assert _on(other, post(image(RED))) == (200, False)
        until(lambda: samples_of(running.get("/metrics"))["mixer_workers_down"] == 1)
        samples, memory = samples_of(running.get("/metrics")), f'mixer_worker_resident_bytes{{worker="{number}"}}'
        assert samples["mixer_ready"] == 0
        assert memory not in samples
        shutil.move(tmp_path / "elsewhere", bundle)
        running.wait_for(SERVING, 3)
        until(lambda: _on(other, READY)[0] == 200)
        until(lambda: samples_of(running.get("/metrics"))["mixer_workers_down"] == 0)
        samples = samples_of(running.get("/metrics"))
        assert samples["mixer_ready"] == 1
        assert samples[memory] > 0


@pytest.mark.parametrize("at_once", [True, False])
def test_with_no_worker_left_that_can_start_it_ends_and_clients_are_refused(at_once: bool, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "colours", color_spec())
    with served(bundle, "--instances", "1", "--workers", "2") as running:
        running.wait_until_serving(workers=2)
        first, second = (int(pid) for pid in running.wait_for(STARTED, 2))
        (bundle / "fp32.onnx").write_bytes(b"no graph")
        os.kill(first, signal.SIGKILL)
        if not at_once:
            running.wait_for(r"worker \d: It cannot start again")
            assert ask(running, post(image(RED))).label == "red"
        os.kill(second, signal.SIGKILL)
        assert running.exit_code() == 3
        assert re.match(
            r"mixer: No worker can start again\. Worker \d: It cannot start again: .*fp32", running.lines[-1]
        )
        assert is_refused(running.port)
