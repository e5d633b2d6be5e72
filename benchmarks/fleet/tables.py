"""Outcomes and parameters as Markdown, and as rows that a file keeps. Knows nothing of how they came about."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.fleet.cluster import Outcome
from benchmarks.fleet.experiments import Experiment
from benchmarks.fleet.parameters import Parameters


def experiment_table(experiment: Experiment, outcomes: Sequence[Outcome]) -> str:
    """One row a scenario."""
    recovers = experiment.since is not None
    heads = ["", "calls/s", "good/s", "good", "p50, ms", "p99, ms", "refused", "failed", "tries",
             "pods before, at most", "pod-minutes", *(["well again after, s"] if recovers else [])]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for outcome in outcomes:
        row = row_of(experiment, outcome)
        cells = [
            row["name"], f"{row['offered_s']:.0f}", f"{row['goodput_s']:.0f}", _share(row["good"]), _ms(row["p50_ms"]),
            _ms(row["p99_ms"]), _share(row["refused"]), _share(row["failed"]), f"{row['tries']:.2f}",
            f"{row['pods_before']}, {row['most_pods']}", f"{row['pod_minutes']:.1f}",
        ]  # fmt: skip
        if recovers:
            cells.append("not" if math.isinf(row["recovery_s"]) else f"{row['recovery_s']:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def row_of(experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    """Figures of the stretch that counts; pods, and what they cost, of all of it."""
    summary = outcome.ledger.summary(experiment.begin, experiment.end)
    seconds = outcome.scenario.seconds
    since = experiment.since
    return {
        "name": outcome.scenario.name, **asdict(summary), "good": summary.good,
        "pods_before": outcome.pods[int(experiment.begin)], "most_pods": max(outcome.pods),
        "pod_minutes": outcome.pod_hours * 60,
        "recovery_s": None if since is None else outcome.ledger.recovery_s(since, seconds),
    }  # fmt: skip


def parameters_table(parameters: Parameters) -> str:
    """In ms of a CPU."""
    decode_ms = sum(parameters.decode_s) / len(parameters.decode_s) * 1000
    loop_ms = (parameters.accept_s + parameters.answer_s) * 1000
    rows = {
        "an image in a run": f"{parameters.image_s * 1000:.3f} ms",
        "a run besides": f"{parameters.run_s * 1000:.3f} ms",
        "decoding, mean of the pictures": f"{decode_ms:.3f} ms",
        "the event loop, for a request": f"{loop_ms:.3f} ms",
        "the event loop, to wake up": f"{parameters.wake_s * 1000:.3f} ms",
        "an idle CPU, to wake up": f"{parameters.idle_wake_s * 1000:.3f} ms",
        "a refusal": f"{parameters.refuse_s * 1000:.3f} ms",
        "the client on the same machine, each way": f"{parameters.client_s * 1000:.3f} ms",
        "that client, to wake up": f"{parameters.client_wake_s * 1000:.3f} ms",
        "speed of a CPU where both are busy": f"{parameters.together:.2f}",
        "workers": f"{parameters.workers}, each pinned to a CPU" if parameters.is_pinned else f"{parameters.workers}",
        "most images in a run": str(parameters.max_batch_size),
        "start to ready": f"{parameters.ready_s:.2f} s",
        "SIGTERM to the end, idle": f"{parameters.drain_s:.2f} s",
        "capacity without a client, calculated": f"{parameters.capacity_s():.0f} images/s",
    }
    about = "".join(f"- {name}: {value}\n" for name, value in parameters.circumstances.items())
    return about + "\n| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows.items())


def filled(page: str, name: str, text: str) -> str:
    """The page with the text between the markers of that name. Raises ValueError where it has none."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = page.partition(begin)
    if not found or end not in rest:
        raise ValueError(f"The page has no {begin} with {end} behind it; expected both.")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{rest.partition(end)[2]}"


def _share(share: float) -> str:
    return f"{share:.2%}"


def _ms(milliseconds: float) -> str:
    return "-" if math.isnan(milliseconds) else f"{milliseconds:.0f}"
