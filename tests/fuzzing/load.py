"""Hostile files through a whole service, while eight clients ask for good pictures: scripts/fuzz load [--files FOLDER].

One file after another, then each of them as a batch of 64, then all of them at once. Exit code 1 where a good picture
got a wrong answer, a late one or none, or where a file took more processor time than it may.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzzing.neighbors import Fared, Neighbors
from tests.pace import slowness_at_first

from tests.app.color_bundle import color_spec, write_bundle  # isort: skip -- found once neighbors is
from tests.app.fakes import samples_of  # isort: skip
from tests.app.servers import Server  # isort: skip
from tests.faults.test_hostile_images import BOMBS, BROKEN, LARGE, NOTHING_BUT_HEADERS, ODD  # isort: skip
from tests.faults.wire import Answer, ask, batch, forget_peak, post, served, usage  # isort: skip

CLIENTS = 8
DEADLINE_S = 30.0  # a request's, unless the service is told otherwise
MOST_CPU_S = 2.0
_BATCH = 64
_MOST_BATCH_BYTES = 60_000_000
_LAG = 'mixer_event_loop_lag_seconds_bucket{le="'
_REST_S = 2.0  # before anything is sent


@dataclass(frozen=True)
class Row:
    """What one file, or several at once, came to.

    `cpu_s`: of all processes, without what so many good pictures cost at other times. `grown_mb`: of all of them, at
    the worst moment of each.
    """

    name: str
    images: int
    answers: list[Answer]
    wall_s: float
    cpu_s: float
    grown_mb: float
    fared: Fared

    def markdown(self) -> str:
        said = ", ".join(sorted({f"{answer.status} {answer.code}".strip() for answer in self.answers}))
        good = self.fared.outcomes
        return (
            f"| {self.name} | {said} | {self.wall_s:.2f} | {self.cpu_s:.2f} | {self.grown_mb:.0f} | {good['right']} | "
            f"{good['refused']} | {self.fared.bad} | {self.fared.worst_s:.2f} | {self.fared.worst_live_s:.2f} |"
        )


HEAD = (
    "| file | answer | s | CPU s | MB more | good: right | refused | wrong, late, lost | worst s | /health/live s |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass
class Load:
    """A service with all its processes, and its neighbors. `rows`: what was seen so far."""

    server: Server
    neighbors: Neighbors
    say: Callable[[str], None]
    rows: list[Row] = field(default_factory=list)
    good_cpu_s: float = 0.0

    def rest(self, seconds: float) -> None:
        """Send nothing, and see what a good picture costs."""
        pids = processes(self.server)
        self.neighbors.since_last()
        before = sum(usage(pid).cpu_s for pid in pids)
        time.sleep(seconds)
        spent_s = sum(usage(pid).cpu_s for pid in pids) - before
        self.good_cpu_s = spent_s / max(1, self.neighbors.since_last().outcomes.total())

    def send(self, name: str, requests: list[bytes], images: int = 1) -> Row:
        """All at once, each on a connection of its own. `images`: how many they hold in all."""
        pids = processes(self.server)
        for pid in pids:
            forget_peak(pid)
        before, started = {pid: usage(pid) for pid in pids}, time.monotonic()
        self.neighbors.since_last()
        answers = _all_at_once(self.server, requests)
        wall_s = time.monotonic() - started
        after = {pid: usage(pid) for pid in pids if Path(f"/proc/{pid}").exists()}
        fared = self.neighbors.since_last()
        cpu_s = sum(after[pid].cpu_s - before[pid].cpu_s for pid in after)
        cpu_s = max(0.0, cpu_s - self.good_cpu_s * fared.outcomes.total())
        grown_mb = sum(max(0.0, after[pid].peak - before[pid].held) for pid in after)
        row = Row(name, images, answers, wall_s, cpu_s, grown_mb, fared)
        self.rows.append(row)
        self.say(row.markdown())
        return row

    def all(self) -> Fared:
        """How good pictures fared in all of it."""
        whole = Fared()
        for row in self.rows:
            whole.add(row.fared)
        return whole


def _all_at_once(server: Server, requests: list[bytes]) -> list[Answer]:
    answers: list[Answer] = [Answer(0, b"")] * len(requests)

    def one(number: int) -> None:
        answers[number] = ask(server, requests[number])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def processes(server: Server) -> list[int]:
    """The one that was started, and its children."""
    first = server._process.pid
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return [first, *map(int, children)]


def longest_lag(text: str) -> str:
    """The bound of the highest bucket of the event loop's lag that has something in it, in seconds."""
    buckets = [(name[len(_LAG) : -2], value) for name, value in samples_of(text).items() if name.startswith(_LAG)]
    total = max((value for _, value in buckets), default=0.0)
    return next((bound for bound, value in buckets if value >= total), "+Inf")


def run(files: Mapping[str, bytes], workers: int, copies: int, say: Callable[[str], None]) -> list[str]:
    """Everything, against a service of so many workers. Returns: what must not have happened."""
    with tempfile.TemporaryDirectory() as place:
        bundle = write_bundle(Path(place), color_spec())
        with served(bundle, "--workers", str(workers), "--request-timeout-s", str(DEADLINE_S)) as server:
            server.wait_until_serving(workers)
            with Neighbors(server, CLIENTS, DEADLINE_S) as neighbors:
                return _storm(Load(server, neighbors, say), files, copies)


def _storm(load: Load, files: Mapping[str, bytes], copies: int) -> list[str]:
    load.say(HEAD)
    first = processes(load.server)
    load.rest(_REST_S)
    for name, payload in files.items():
        load.send(name, [post(payload)])
    for name, payload in files.items():
        times = min(_BATCH, max(1, _MOST_BATCH_BYTES // (len(payload) + 100)))
        load.send(f"{name}, a batch of {times}", [batch(*[payload] * times)], times)
    everything = [post(payload) for payload in files.values()] * copies
    load.send(f"all of them, {copies} times at once", everything, len(everything))
    whole = load.all()
    held = sum(usage(pid).held for pid in processes(load.server))
    good = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(whole.outcomes.items()))
    lag, now = longest_lag(load.server.get("/metrics")), processes(load.server)
    load.say(
        f"\ngood pictures: {good}; the slowest took {whole.worst_s:.2f} s, /health/live {whole.worst_live_s:.2f} s; "
        f"event loop at most {lag} s late; {held:.0f} MB held at the end; "
        f"workers replaced: {'no' if now == first else 'yes'}"
    )
    return faults_in(load.rows)


def faults_in(rows: Sequence[Row]) -> list[str]:
    """What must not have happened."""
    slow = [row for row in rows if row.cpu_s > MOST_CPU_S * row.images * slowness_at_first()]
    faults = [f"{row.name}: {row.cpu_s:.1f} s of processor time in {row.wall_s:.1f} s" for row in slow]
    faults += [f"{row.name}: good pictures {dict(row.fared.outcomes)}" for row in rows if row.fared.bad]
    lost = [(row, answer) for row in rows for answer in row.answers if answer.status in (0, 500)]
    return faults + [f"{row.name}: {answer.status or 'no answer'}" for row, answer in lost]


def known_files() -> dict[str, Callable[[], bytes]]:
    """What makes those that the tests know."""
    groups = {"bomb": BOMBS, "headers": NOTHING_BUT_HEADERS, "broken": BROKEN, "odd": ODD, "large": LARGE}
    return {f"{group}: {name}": make for group, files in groups.items() for name, make in files.items()}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz load", description=__doc__)
    parser.add_argument("--files", type=Path, help="a folder; default: the hostile files of the tests")
    parser.add_argument("--workers", type=int, default=2, help="of the service; default 2")
    parser.add_argument("--copies", type=int, default=2, help="of each file, all at once in the end; default 2")
    options = parser.parse_args(arguments)
    if options.files:
        files = {path.name: path.read_bytes() for path in sorted(options.files.iterdir()) if path.is_file()}
    else:
        files = {name: make() for name, make in known_files().items()}
    faults = run(files, options.workers, options.copies, print)
    sys.stdout.write("".join(f"FINDING {fault}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
