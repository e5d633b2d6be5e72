"""Fuzzing of one target to its end: workers in turn, replaced when they die, and everything they found, seen again.

A death or a hang is a finding whatever else; what a worker suspects counts if it happens in an ordinary process too.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.fuzzing.blackbox import BlackBox
from tests.fuzzing.targets import Cost, Target
from tests.pace import slowness_at_first

ROOT = Path(__file__).resolve().parents[2]
_LEG = 100_000  # most inputs of one worker
_PATIENCE_S = 60.0  # without a new input
_PATIENCE_CPU_S = 15.0
_GLANCE_S = 0.2


@dataclass
class Report:
    """What came of it. `findings`: a file each, with the words beside it."""

    begun: int = 0
    seconds: float = 0.0
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)
    worst: dict[str, Cost] = field(default_factory=dict)
    findings: list[Path] = field(default_factory=list)
    unconfirmed: int = 0


@dataclass(frozen=True)
class Campaign:
    """`folder` keeps the corpus and the findings from one campaign to the next."""

    name: str
    target: Target
    folder: Path
    seed: int
    say: Callable[[str], None]
    guided: bool = True
    patience_s: float = _PATIENCE_S

    def run(self, runs: int, seconds: float) -> Report:
        """Until `runs` inputs have been tried, or so many seconds have passed."""
        report, started = Report(), time.monotonic()
        for name in ("suspects", "findings"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        leg = 0
        while report.begun < runs and report.seconds < seconds:
            self._run_leg(min(_LEG, runs - report.begun), self.seed + leg, seconds - report.seconds, report)
            leg += 1  # guided and at random in turn
            report.seconds = time.monotonic() - started
            self._confirm(report)
            self.say(f"{self.name}: {report.begun} inputs in {report.seconds:.0f} s, {len(report.findings)} findings")
        return report

    def _run_leg(self, runs: int, seed: int, seconds: float, report: Report) -> None:
        recorded = self.folder / "blackbox"
        recorded.unlink(missing_ok=True)
        with BlackBox(recorded, self.target.kinds) as box, (self.folder / "stderr").open("wb") as noise:
            mode = "guided" if self.guided and seed % 2 == self.seed % 2 else "random"
            command = [
                sys.executable,
                "-m",
                "tests.fuzzing.worker",
                mode,
                self.name,
                str(self.folder),
                str(runs),
                str(seed),
            ]
            worker = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=noise, stderr=noise)
            why = self._watch(worker, box, time.monotonic() + seconds)
            report.begun += box.begun
            report.tally += box.tally()
            for kind, cost in box.worst().items():
                report.worst[kind] = cost.or_more(report.worst.get(kind, Cost()))
            if why:
                if not box.begun:
                    raise RuntimeError(
                        f"The worker ended before its first input: {why}; {self.folder / 'stderr'} has more."
                    )
                self._keep(box.current, why, report)

    def _watch(self, worker: "subprocess.Popen[bytes]", box: BlackBox, end: float) -> str:
        """Why the worker's last input is a finding; "" if it is none."""
        begun, since, cpu_s = -1, time.monotonic(), 0.0
        while True:
            try:
                code = worker.wait(_GLANCE_S)
            except subprocess.TimeoutExpired:
                now = time.monotonic()
                if box.begun != begun:
                    begun, since, cpu_s = box.begun, now, _cpu_s(worker.pid)
                stuck = (
                    now - since > self.patience_s or _cpu_s(worker.pid) - cpu_s > _PATIENCE_CPU_S * slowness_at_first()
                )
                if (begun and stuck) or now > end:
                    worker.kill()
                    worker.wait()
                    return f"A hang: no answer within {now - since:.0f} s." if stuck else ""
            else:
                return "" if code == 0 else f"A death: the process ended with {_named(code)}."

    def _confirm(self, report: Report) -> None:
        for suspect in sorted((self.folder / "suspects").iterdir()):
            if suspect.suffix:
                continue
            words = suspect.with_suffix(".txt")
            with (self.folder / "stderr").open("wb") as noise:  # a file, so that what is written can be measured
                again = subprocess.run(
                    [sys.executable, "-m", "tests.fuzzing.worker", "--reproduce", self.name, str(suspect)],
                    cwd=ROOT,
                    env=environment(),
                    stdout=subprocess.PIPE,
                    stderr=noise,
                    check=False,
                    timeout=300,
                )
            if again.returncode or not suspect.stat().st_size:  # what has no input of its own cannot be tried again
                seen = again.stdout.decode() if again.returncode == 1 else f"It ends with {_named(again.returncode)}."
                self._keep(suspect.read_bytes(), words.read_text() + "\nAgain:\n" + seen, report)
            else:
                report.unconfirmed += 1
                last = words.read_text().strip().splitlines()[-1]
                self.say(f"not confirmed: {last}\n  {again.stdout.decode().strip()}")
            suspect.unlink()
            words.unlink()

    def _keep(self, payload: bytes, why: str, report: Report) -> None:
        path = self.folder / "findings" / sha256(payload).hexdigest()[:16]
        if path in report.findings:  # it is in the corpus by now
            return
        report.findings.append(path)
        path.write_bytes(payload)
        path.with_suffix(".txt").write_text(why)
        self.say(
            f"FINDING {path}\n  {why.strip().splitlines()[-1]}\n  again: scripts/fuzz {self.name} --reproduce {path}"
        )


def environment() -> dict[str, str]:
    """For a process that imports this package, whoever starts it."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def _named(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else str(code)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
