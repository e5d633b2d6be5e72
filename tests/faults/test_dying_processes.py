"""Processes that are killed, told to stop, or started where there is no room: what was accepted is answered."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.app.color_bundle import BLUE, GREEN, RED, image
from tests.app.servers import (
    PATIENCE_S,
    ROOT,
    SERVING,
    STARTED,
    Server,
    clean_environment,
    connect,
    connected_to_all,
    free_port,
    head_of_upload,
    owners,
    read_until,
    until,
)
from tests.faults.wire import A_RUN_HAS_BEGUN, Reader, ask, gated, pid_of, post, served, usage
from tests.pace import is_within

pytestmark = pytest.mark.process

COLORS = [(RED, "red"), (GREEN, "green"), (BLUE, "blue")]


class Load(threading.Thread):
    """One client with a connection of its own, that asks again and again until told to stop or sent away."""

    def __init__(self, server: Server, number: int, *, reconnects: bool) -> None:
        super().__init__(daemon=True)
        self._port = server.port
        self._color, self._label = COLORS[number % len(COLORS)]
        self._reconnects = reconnects
        self.outcomes: Counter[str] = Counter()
        self.stopping = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        while not self.stopping.is_set():
            outcome = self._ask(connection)
            self.outcomes[outcome] += 1
            if outcome != "right":
                connection.close()
                if not self._reconnects:
                    break
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> str:
        try:
            connection.request("POST", "/classify", image(self._color), {"Content-Type": "image/png"})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return "refused" if isinstance(error, ConnectionRefusedError) else "no answer"
        if answer.status != 200:
            return str(answer.status)
        return "right" if json.loads(body)["predictions"][0]["label"] == self._label else "wrong"


def under_load(server: Server, clients: int, *, reconnects: bool = False) -> list[Load]:
    """Clients, each of which has had its first answers."""
    loads = [Load(server, number, reconnects=reconnects) for number in range(clients)]
    for load in loads:
        load.start()
    until(lambda: all(load.outcomes["right"] >= 3 for load in loads))
    return loads


def outcomes_of(loads: list[Load]) -> Counter[str]:
    for load in loads:
        load.stopping.set()
        load.join(PATIENCE_S)
        assert not load.is_alive()
    return sum((load.outcomes for load in loads), Counter())


def children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def born_at(pid: int) -> float:
    """When a process was forked, in time.monotonic()'s seconds."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic() - (since_boot - ticks / os.sysconf("SC_CLK_TCK"))


def log_of(server: Server, pattern: str) -> list[str]:
    return [line for line in server.lines if re.search(pattern, line)]


# --- killed ---


def test_a_killed_worker_takes_only_its_own_requests_with_it_and_is_replaced(bundle: Path) -> None:
    with served(bundle, "--instances", "1", "--workers", "2") as running:
        pids = [int(pid) for pid in running.wait_for(STARTED, 2)]
        running.wait_until_serving(workers=2)
        connections = [running.connect() for _ in range(24)]
        for connection in connections:
            connection.sendall(post(image(RED)))
        assert [Reader(connection).answer().label for connection in connections] == ["red"] * 24
        holders = owners(connections, pids)
        loads = under_load(running, 4, reconnects=True)

        for connection in connections:  # every one of them is in the middle of a request
            connection.sendall(head_of_upload(len(image(BLUE))))
            assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        os.kill(pids[0], signal.SIGKILL)
        killed = time.monotonic()
        for connection, owner in zip(connections, holders, strict=True):
            if owner == pids[0]:
                assert Reader(connection).answer().status == 0
            else:
                connection.sendall(image(BLUE))
                assert Reader(connection).answer().label == "blue"
            connection.close()

        running.wait_for(rf"worker \d \(process {pids[0]}\) was ended by SIGKILL, and is replaced")
        successor = int(running.wait_for(STARTED, 3)[2])
        running.wait_for(SERVING, 3)
        # A second until it is started, as it died young, and what it takes to serve then, were the machine its own.
        assert is_within(born_at(successor) - killed + usage(successor).cpu_s, 2)
        outcomes = outcomes_of(loads)
        assert outcomes["right"] > 12
        assert set(outcomes) <= {"right", "no answer"}
        assert outcomes["no answer"] <= len(loads)  # a client meets the dead worker once


def test_the_worker_that_replaces_another_gets_its_share_of_clients_that_keep_their_connections(bundle: Path) -> None:
    with served(bundle, "--instances", "1", "--workers", "2") as running, ExitStack() as opened:
        pids = [int(pid) for pid in running.wait_for(STARTED, 2)]
        running.wait_until_serving(workers=2)
        os.kill(pids[0], signal.SIGKILL)
        successor = int(running.wait_for(STARTED, 3)[2])
        os.kill(successor, signal.SIGSTOP)  # so that it takes none
        connections = [opened.enter_context(running.connect()) for _ in range(24)]

        def all_answered() -> list[int]:
            """Each asks once, and comes anew where its connection was to end. Returns who has those that go on."""
            going_on = []
            for number, connection in enumerate(connections):
                connection.sendall(post(image(RED)))
                reader = Reader(connection)
                assert reader.answer().label == "red"
                if reader.closes:
                    connections[number] = opened.enter_context(running.connect())
                else:
                    going_on.append(connection)
            return owners(going_on, [pids[1], successor])

        assert set(all_answered()) == {pids[1]}
        os.kill(successor, signal.SIGCONT)
        running.wait_for(SERVING, 3)
        until(lambda: all_answered().count(successor) >= 6)
        until(lambda: all_answered().count(pids[1]) >= 6)


def test_workers_do_not_outlive_the_process_that_watches_over_them(bundle: Path) -> None:
    with served(bundle, "--instances", "1", "--workers", "2") as running:
        pids = [int(pid) for pid in running.wait_for(STARTED, 2)]
        running.wait_until_serving(workers=2)
        running.signal(signal.SIGKILL)
        try:
            running.wait_for("the supervising process has gone; this worker ends too", 2)
            until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with socket.socket() as successor:
            successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            successor.bind(("127.0.0.1", running.port))


# --- told to stop ---


@pytest.mark.parametrize("workers", [1, 2])
def test_told_to_stop_under_load_no_answer_is_lost(workers: int, bundle: Path) -> None:
    with served(bundle, "--instances", "1", "--workers", str(workers)) as running:
        running.wait_until_serving(workers)
        accepted = [running.connect() for _ in range(8)]
        for connection in accepted:
            connection.sendall(head_of_upload(len(image(GREEN))))
            assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        loads = under_load(running, 8)
        running.signal(signal.SIGTERM)
        running.wait_for("Shutting down", workers)
        for connection in accepted:
            connection.sendall(image(GREEN))
            assert Reader(connection).answer().label == "green"
            connection.close()
        outcomes = outcomes_of(loads)
        assert running.exit_code() == 0
        assert set(outcomes) <= {"right", "503", "no answer", "refused"}
        assert outcomes["no answer"] + outcomes["refused"] + outcomes["503"] <= len(loads)
        answered = len(log_of(running, "mixer.access POST /classify 200"))
        assert answered == outcomes["right"] + len(accepted)  # whatever was classified has arrived
        assert not log_of(running, "Traceback| 499 | 500 ")


@pytest.mark.parametrize("workers", [1, 2])
def test_told_to_stop_twice_it_stops_as_if_told_once(workers: int, bundle: Path) -> None:
    with served(bundle, "--instances", "1", "--workers", str(workers)) as running:
        running.wait_until_serving(workers)
        with running.connect() as connection:
            connection.sendall(head_of_upload(len(image(GREEN))))
            assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            running.signal(signal.SIGTERM)
            running.wait_for("Shutting down", workers)
            running.signal(signal.SIGTERM)
            connection.sendall(image(GREEN))
            assert Reader(connection).answer().label == "green"
        assert running.exit_code() == 0
        assert not log_of(running, "Traceback")


_IN_A_TERMINAL = "import os, sys; os.setsid(); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"


def test_one_ctrl_c_in_a_terminal_loses_no_answer(bundle: Path) -> None:
    """A terminal sends it to the whole group of processes; a worker that got it twice would hurry."""
    port = free_port()
    serve = ("-m", "cli", "serve", "--port", str(port), "--bundle", str(bundle), "--instances", "1", "--workers", "2")
    with Server("-c", _IN_A_TERMINAL, *serve, port=port) as running:
        pids = [int(pid) for pid in running.wait_for(STARTED, 2)]
        running.wait_until_serving(workers=2)
        connections = connected_to_all(running.port, pids, 8)
        for connection in connections:
            connection.sendall(head_of_upload(len(image(GREEN))))
            assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        os.killpg(pid_of(running), signal.SIGINT)
        running.wait_for("Waiting for connections to close", 2)
        for connection in connections:
            connection.sendall(image(GREEN))
            assert Reader(connection).answer().label == "green"
            connection.close()
        assert running.exit_code() == 0
        assert not log_of(running, "Traceback|told twice")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("times", [1, 1000])
def test_told_by_ctrl_c_again_it_hurries(workers: int, times: int, bundle: Path) -> None:
    with served(bundle, "--instances", "1", "--workers", str(workers), "--drain-timeout-s", "600") as running:
        running.wait_until_serving(workers)
        with running.connect() as connection:
            connection.sendall(head_of_upload(len(image(GREEN))))
            assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            running.signal(signal.SIGINT)
            running.wait_for("Waiting for connections to close")
            for _ in range(times):
                if not running.is_running():
                    break
                running.signal(signal.SIGINT)
                time.sleep(0.01)  # some come while a worker ends, and some after all of them
            assert running.exit_code() == 0
            assert Reader(connection).answer().status == 0
        assert not log_of(running, "Traceback")


_HUNG_UP_ON_EARLY = """
import os, signal, sys
from cli import main
from app.server import serve as server

def serve(make, settings, serve=server.serve):
    os.kill(os.getpid(), signal.SIGHUP)  # long before anybody listens
    return serve(make, settings)

server.serve = serve
sys.argv = ["mixer", *sys.argv[1:]]
main.main()
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hang_up_signal_before_it_serves_does_not_end_it(workers: str, bundle: Path) -> None:
    port = free_port()
    flags = ["serve", "--port", str(port), "--bundle", str(bundle), "--instances", "1", "--workers", workers]
    with Server("-c", _HUNG_UP_ON_EARLY, *flags, port=port) as running:
        running.wait_until_serving(int(workers))
        if workers == "1":
            running.wait_for(rf"reload: {bundle.name} unchanged")  # it was not forgotten
        assert ask(running, post(image(RED))).label == "red"
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_told_to_stop_it_refuses_connections_while_it_finishes_what_it_accepted(workers: int, bundle: Path) -> None:
    with served(bundle, "--instances", "1", "--workers", str(workers)) as running:
        running.wait_until_serving(workers)
        with running.connect() as accepted:
            accepted.sendall(head_of_upload(len(image(GREEN))))
            assert read_until(accepted, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            running.signal(signal.SIGTERM)
            running.wait_for("Shutting down", workers)
            until(lambda: is_refused(running.port))
            accepted.sendall(image(GREEN))
            assert Reader(accepted).answer().label == "green"
        assert running.exit_code() == 0


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
    except ConnectionRefusedError:
        return True
    return False


def test_an_upload_that_is_not_done_when_the_drain_ends_gets_503(bundle: Path) -> None:
    with served(bundle, "--workers", "1", "--drain-timeout-s", "0.2") as running:
        running.wait_until_serving()
        with running.connect() as connection:
            connection.sendall(head_of_upload(1000))
            assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            running.signal(signal.SIGTERM)
            answer = Reader(connection).answer()
        assert (answer.status, answer.code) == (503, "not_ready")
        assert running.exit_code() == 0
        assert not log_of(running, "Traceback")


def test_all_that_waits_when_the_drain_ends_gets_503(bundle: Path) -> None:
    with gated(bundle, "--max-batch-size", "1", "--drain-timeout-s", "0.2") as running:
        running.wait_until_serving()
        connections = [running.connect() for _ in range(5)]
        connections[0].sendall(post(image(RED)))
        running.wait_for(A_RUN_HAS_BEGUN)
        for connection in connections[1:]:
            connection.sendall(head_of_upload(len(image(RED))))
            assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            connection.sendall(image(RED))
        running.signal(signal.SIGTERM)
        assert [Reader(connection).answer().status for connection in connections] == [503] * 5
        assert running.exit_code() == 0
        for connection in connections:
            connection.close()


# --- started where there is no room ---


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk_under_the_log_stops_nothing(workers: str, bundle: Path) -> None:
    port = free_port()
    flags = ["--port", str(port), "--bundle", str(bundle), "--instances", "1", "--workers", workers]
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "serve", *flags], cwd=ROOT, env=clean_environment(), stderr=full
        )
    try:
        for _ in range(5):
            with connect(port) as connection:
                connection.sendall(post(image(BLUE)))
                assert Reader(connection).answer().label == "blue"
        if workers == "2":  # nor does what is said of a worker that is replaced
            dead = children(process.pid)
            os.kill(min(dead), signal.SIGKILL)
            until(lambda: len(children(process.pid) - dead) == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()


_NO_FILE_TO_WRITE = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
os.chdir(sys.argv[1])
kept = {name: value for name, value in os.environ.items() if name != "HOME" and not name.startswith("COV")}
command = [sys.executable, "-m", "cli", "serve", *sys.argv[2:]]
os.execve(sys.executable, command, {**kept, "PYTHONPATH": sys.argv[1]})
"""


def _where_no_file_can_be_written(bundle: Path, *flags: str) -> Server:
    """`mixer serve` without a home, in a process that the system lets write to no file at all."""
    port = free_port()
    given = ["--port", str(port), "--bundle", str(bundle), "--instances", "1", *flags]
    return Server("-c", _NO_FILE_TO_WRITE, str(ROOT), *given, port=port)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_write_access_anywhere_it_serves(workers: str, bundle: Path) -> None:
    with _where_no_file_can_be_written(bundle, "--workers", workers) as running:
        running.wait_until_serving(int(workers))
        large = image(GREEN, size=(1200, 1200), kind="BMP")  # larger than any upload that frameworks keep in memory
        assert ask(running, post(large)).label == "green"
        assert "mixer_requests_total" in running.get("/metrics")
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_ends_the_start_in_one_line(workers: str, bundle: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = ["--port", str(port), "--bundle", str(bundle), "--workers", workers]
        with Server("-m", "cli", "serve", *flags, port=port) as running:
            assert running.exit_code() == 1
            assert running.lines == [
                f"mixer: MIXER_HOST is 127.0.0.1 and MIXER_PORT {port}, which cannot be listened on: "
                "Address already in use.\n"
            ]


def test_of_two_that_start_on_one_port_at_once_only_one_goes_on(bundle: Path) -> None:
    """Both may bind; only one may listen."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        flags = ["serve", "--port", str(port), "--bundle", str(bundle), "--workers", "1"]
        with Server("-m", "cli", *flags, port=port) as running:
            running.wait_for("mixer.server starting on")
            with pytest.raises(OSError, match="Address already in use"):
                other.listen()
            assert ask(running, post(image(RED))).label == "red"


def test_few_open_files_are_made_more_or_it_says_so(bundle: Path) -> None:
    port = free_port()
    limits = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300)); "
    start = 'os.execv(sys.executable, [sys.executable, "-m", "cli", "serve", *sys.argv[1:]])'
    flags = ["--port", str(port), "--bundle", str(bundle), "--workers", "1"]
    with Server("-c", limits + start, *flags, port=port) as running:
        running.wait_for("only 300 files may be open, too few for MIXER_MAX_CONNECTIONS=2048")
        running.wait_until_serving()
        idle = [running.connect() for _ in range(150)]
        assert ask(running, post(image(RED))).label == "red"
        for connection in idle:
            connection.close()
