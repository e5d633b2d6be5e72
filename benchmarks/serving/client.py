"""wrk as the client: sends the pictures of a workload for a while, and tells how it went. Knows nothing of servers.

wrk's percentiles are exact, with its own correction: where an answer took more than twice the mean, those that would
have been asked for meanwhile count, too.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

THREADS = 4
_SCRIPT = Path(__file__).with_name("answers.lua")
_TIMEOUT_S = 60  # an answer later than that is an error
_GRACE_S = 30


class ClientFailed(Exception):
    """wrk is missing, or ended badly; the message says why."""


@dataclass(frozen=True)
class Group:
    """Request bodies in files, for all of which the best label is `label`."""

    label: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Plan:
    """What a client sends: request bodies, and how they are declared."""

    path: str
    content_type: str
    groups: tuple[Group, ...]

    def as_lua(self) -> str:
        """As the file that answers.lua reads."""
        groups = "".join(f"{_lua(group)}, " for group in self.groups)
        return (
            f"return {{ path = {_quoted(self.path)}, content_type = {_quoted(self.content_type)}, "
            f"groups = {{ {groups}}} }}\n"
        )


@dataclass(frozen=True)
class Outcome:
    """What wrk saw. `lost`: requests whose connection was closed in place of an answer."""

    duration_s: float
    answered: int
    wrong: int
    failed: int
    lost: int
    timeouts: int
    example: str
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @property
    def images_s(self) -> float:
        """Right answers a second."""
        return (self.answered - self.wrong - self.failed) / self.duration_s

    @property
    def fault(self) -> str | None:
        """Why this run does not count; None where every answer was right."""
        counts = {"wrong": self.wrong, "failed": self.failed, "lost": self.lost, "timed out": self.timeouts}
        faults = [f"{count} {name}" for name, count in counts.items() if count]
        if faults:
            return f"{', '.join(faults)} of {self.answered + self.lost + self.timeouts}" + (
                f" ({self.example})" if self.example else ""
            )
        return None if self.answered else f"no answer in {self.duration_s:.1f} s"


def run(plan: Plan, port: int, connections: int, seconds: float) -> Outcome:
    """Send for `seconds` over so many connections. Raises ClientFailed."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise ClientFailed("wrk is not on PATH; expected Debian's package wrk.")
    threads = threads_for(connections, len(plan.groups))
    with tempfile.TemporaryDirectory(prefix="bench-wrk-") as folder:
        plan_file, report = Path(folder) / "plan.lua", Path(folder) / "report.json"
        plan_file.write_text(plan.as_lua(), encoding="utf-8")
        variables = {
            "BENCH_PLAN": str(plan_file),
            "BENCH_REPORT": str(report),
            "BENCH_ALONE": str(int(connections == 1)),
        }
        command = (
            wrk, "--latency", "-t", str(threads), "-c", str(connections), "-d", str(math.ceil(seconds)),
            "--timeout", str(_TIMEOUT_S), "-s", str(_SCRIPT), f"http://127.0.0.1:{port}",
        )  # fmt: skip
        said = _call(command, {**os.environ, **variables}, seconds)
        if not report.is_file():
            raise ClientFailed(f"wrk wrote no report: {said.strip()[-300:]}")
        return parse(report.read_text(encoding="utf-8"), connections)


def threads_for(connections: int, groups: int) -> int:
    """One thread a label, as many as share out the connections evenly; what is over is not sent."""
    return max(count for count in range(1, min(THREADS, connections, groups) + 1) if connections % count == 0)


def parse(report: str, connections: int) -> Outcome:
    """What answers.lua wrote. One request is made before anything is sent, and each connection may wait at the end."""
    content = json.loads(report)
    unanswered = content["sent"] - content["answered"]
    return Outcome(
        duration_s=content["duration_s"],
        answered=content["answered"],
        wrong=content["wrong"],
        failed=content["failed"],
        lost=max(0, unanswered - connections - 1, content["connect"] + content["read"] + content["write"]),
        timeouts=content["timeout"],
        example=content["example"],
        p50_ms=content["p50_ms"],
        p95_ms=content["p95_ms"],
        p99_ms=content["p99_ms"],
        max_ms=content["max_ms"],
    )


def _call(command: Sequence[str], environment: dict[str, str], seconds: float) -> str:
    """Run wrk, whose own clock knows whole seconds only. Returns what it said."""
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            if seconds != math.ceil(seconds):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)
                process.send_signal(signal.SIGINT)
            return process.communicate(timeout=seconds + _GRACE_S)[0]
        except subprocess.TimeoutExpired:
            raise ClientFailed(f"wrk did not end {_GRACE_S} s after its {seconds:g} s.") from None
        finally:
            process.kill()


def _lua(group: Group) -> str:
    files = ", ".join(_quoted(str(file)) for file in group.files)
    return f"{{ label = {_quoted(group.label)}, files = {{ {files} }} }}"


def _quoted(text: str) -> str:
    """A Lua string."""
    return '"' + "".join(f"\\{ord(one)}" if one in '"\\' or ord(one) < 32 else one for one in text) + '"'
