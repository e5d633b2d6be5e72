"""Fuzzed: a whole service on a real socket, by its schema and by what is no HTTP; right pictures get right answers.

A finding: a status of 5xx other than 501 (a transfer coding) and 504 (a body that never arrived), a line in its log, a
wrong answer, none, more memory, or its death.
"""

import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzzing.campaign import environment
from tests.fuzzing.targets import Finding
from tests.fuzzing.volleys import Line, fire, from_json, to_json, volley, whole_requests

from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image, write_bundle  # isort: skip -- found once volleys is
from tests.app.fakes import samples_of  # isort: skip
from tests.app.servers import Server  # isort: skip
from tests.faults.wire import ask, pid_of, post, served, usage  # isort: skip

_FLAGS = ("--log-level", "warning", "--body-timeout-s", "2", "--keep-alive-timeout-s", "5")
_PROBE_EVERY = 12  # volleys
_MOST_MEGABYTES = 200
_MEANT = {501, 504}
_RED_GREEN_BLUE = {"red": RED, "green": GREEN, "blue": BLUE}


@dataclass
class Watch:
    """A service, and what it was like before."""

    server: Server
    idle: float = 0.0
    lines_seen: int = 0
    errors: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)

    def start(self) -> None:
        for label, color in _RED_GREEN_BLUE.items():
            self._expect_answer(label, color)
        self.idle = usage(pid_of(self.server)).held
        self.lines_seen = len(self.server.lines)

    def probe(self) -> None:
        """Raises: Finding."""
        try:
            for label, color in _RED_GREEN_BLUE.items():
                self._expect_answer(label, color)
            self._expect_no_errors()
            held = usage(pid_of(self.server)).held
        except OSError as error:
            raise Finding(f"The service is gone, or does not answer: {error!r}.") from error
        if held - self.idle > _MOST_MEGABYTES:
            raise Finding(f"It holds {held - self.idle:.0f} MB more than at first; expected at most {_MOST_MEGABYTES}.")

    def requests(self) -> int:
        """How many the service itself has counted."""
        samples = samples_of(self.server.get("/metrics"))
        return int(sum(value for name, value in samples.items() if name.startswith("mixer_requests_total{")))

    def _expect_answer(self, label: str, color: tuple[int, int, int]) -> None:
        answer = ask(self.server, post(image(color)))
        if answer.status != 200 or answer.label != label:
            raise Finding(f"A {label} picture got {answer.status} {answer.body[:200]!r}.")

    def _expect_no_errors(self) -> None:
        samples = samples_of(self.server.get("/metrics"))
        counted = {name: value for name, value in samples.items() if re.search(r'requests_total\{.*status="5', name)}
        errors = sum(value for name, value in counted.items() if not any(f'"{status}"' in name for status in _MEANT))
        said, self.lines_seen = self.server.lines[self.lines_seen :], len(self.server.lines)
        if errors > self.errors or said:
            raise Finding(
                f"{errors - self.errors:.0f} requests got 5xx: {counted}; the log has {said[:30] + said[-10:]}."
            )
        wrong = [status for status in self.statuses if status >= 500 and status not in _MEANT]
        if wrong:
            raise Finding(f"Statuses {self.statuses}; expected none of 5xx but 501 and 504.")


def fuzz(runs: int, seconds: float, folder: Path, seed: int, say: Callable[[str], None]) -> int:
    """Half of the requests by each of both ways. Returns how many findings there were."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        bundle = write_bundle(Path(place), color_spec())
        findings = by_schema(bundle, max(1, runs // 2), seconds / 2, seed, say, folder)
        return findings + by_hand(bundle, runs - runs // 2, seconds / 2, folder, seed, say)


def by_hand(
    bundle: Path, runs: int, seconds: float, folder: Path, seed: int, say: Callable[[str], None], connections: int = 48
) -> int:
    """`runs` mutated requests over raw sockets."""
    rng, requests, started = random.Random(seed), whole_requests(), time.monotonic()
    sent, findings, recent = 0, 0, list[Line]()
    watch: Watch | None = None
    statuses: Counter[int] = Counter()
    while sent < runs and time.monotonic() - started < seconds:
        with served(bundle, *_FLAGS) as server:
            server.connect().close()
            watch = Watch(server)
            watch.start()
            try:
                while sent < runs and time.monotonic() - started < seconds:
                    recent = []
                    for _ in range(_PROBE_EVERY):
                        lines = volley(requests, rng, connections)
                        recent += lines
                        sent += len(lines)
                        watch.statuses.update(fire(server.port, lines))
                    watch.probe()
            except (Finding, OSError, AssertionError) as error:
                findings += 1
                _keep(folder, recent, error, say)
            statuses += watch.statuses
    say(f"http, raw sockets: {sent} requests in {time.monotonic() - started:.0f} s, {findings} findings; answers: "
        + ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))  # fmt: skip
    return findings


def by_schema(bundle: Path, runs: int, seconds: float, seed: int, say: Callable[[str], None], folder: Path) -> int:
    """About `runs` requests made up by schemathesis from the service's own description, with all of its checks."""
    with served(bundle, *_FLAGS) as server:
        server.connect().close()
        watch = Watch(server)
        watch.start()
        before, started = watch.requests(), time.monotonic()
        command = [
            *(
                sys.executable,
                "-m",
                "schemathesis.cli",
                "--config-file",
                str(Path(__file__).with_name("schemathesis.toml")),
            ),
            *("run", f"http://127.0.0.1:{server.port}/openapi.json", "--checks", "all", "--continue-on-failure"),
            *(
                "--max-examples",
                str(max(1, runs // 6)),
                "--seed",
                str(seed),
                "--no-color",
                "--generation-database",
                "none",
            ),
        ]
        with (folder / "schemathesis.txt").open("wb") as report:
            ended = subprocess.run(
                command, cwd=folder, env=environment(), stdout=report, stderr=report, check=False,
                timeout=None if seconds == float("inf") else seconds + 600,
            )  # fmt: skip
        findings = int(ended.returncode != 0)
        if findings:
            say(f"FINDING {folder / 'schemathesis.txt'} has what schemathesis found; it ended with {ended.returncode}.")
        try:
            watch.probe()
        except Finding as error:
            findings += 1
            say(f"FINDING after schemathesis: {error}")
        sent, took_s = watch.requests() - before, time.monotonic() - started
        say(f"http, by schema: {sent} requests in {took_s:.0f} s, {findings} findings")
    return findings


def reproduce(path: Path) -> int:
    """Send what was found once more, and say which lines are enough. 1 where something happens."""
    lines = from_json(path.read_text())
    with tempfile.TemporaryDirectory() as place:
        bundle = write_bundle(Path(place), color_spec())
        if not _happens(bundle, lines):
            sys.stdout.write("It does not happen again.\n")
            return 0
        while len(lines) > 1:  # halves, as long as one of them is enough
            half = len(lines) // 2
            smaller = next((some for some in (lines[:half], lines[half:]) if _happens(bundle, some)), None)
            if smaller is None:
                break
            lines = smaller
    sys.stdout.write("It happens with:\n" + "\n".join(map(str, lines)) + "\n")
    return 1


def _happens(bundle: Path, lines: list[Line]) -> bool:
    with served(bundle, *_FLAGS) as server:
        server.connect().close()
        watch = Watch(server)
        watch.start()
        try:
            watch.statuses.update(fire(server.port, lines))
            watch.probe()
        except (Finding, OSError, AssertionError):
            return True
    return False


def _keep(folder: Path, lines: list[Line], error: BaseException, say: Callable[[str], None]) -> None:
    (folder / "findings").mkdir(exist_ok=True)
    path = folder / "findings" / f"{time.time_ns()}.json"
    path.write_text(to_json(lines))
    path.with_suffix(".txt").write_text(str(error))
    say(f"FINDING {path}\n  {str(error)[:2000]}\n  again: scripts/fuzz http --reproduce {path}")
