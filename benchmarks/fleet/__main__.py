"""From one machine to a hundred nodes.

    python -m benchmarks.fleet validate              # measure this machine and compare the simulation with it
    python -m benchmarks.fleet simulate              # every experiment, with benchmarks/fleet/parameters.json
    python -m benchmarks.fleet simulate burst day    # some of them

`validate` needs a machine on which nothing else runs; it takes about 15 minutes with its defaults, and writes
measured.json, parameters.json, validation.md and validation.json into --out. `simulate` writes experiments.md,
experiments.json and plots there. With --keep, both write what they found into docs/scale.md and docs/images, and
`validate` the parameters that `simulate` reads.
"""

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.errors import StartError
from benchmarks.fleet import agreement, interleaving, measured, plots, tables, validation
from benchmarks.fleet import parameters as measured_parameters
from benchmarks.fleet.cluster import simulate
from benchmarks.fleet.experiments import experiments
from benchmarks.serving.environments import ROOT
from benchmarks.serving.processes import adopt_orphans, end_all
from benchmarks.serving.server import StartFailed

_PAGE = ROOT / "docs" / "scale.md"
_DRAWN = {
    "burst": ("two pods, none more", "CPU 70 %", "in flight, 4 a pod", "CPU 70 % and in flight, 8 a pod"),
    "day": ("two pods", "CPU 70 %", "in flight, 4 a pod", "CPU 70 % and in flight, 8 a pod"),
    "retries": (),
}


def main(flags: Sequence[str] | None = None) -> int:
    """The exit code."""
    arguments = parsed(sys.argv[1:] if flags is None else flags)
    arguments.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("mixer").setLevel(logging.WARNING)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return _simulate(arguments) if arguments.what == "simulate" else _validate(arguments)
    except (ValueError, OSError, StartError, StartFailed) as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 2


def parsed(flags: Sequence[str]) -> argparse.Namespace:
    """What is to be done, and how."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("validate", "simulate"))
    parser.add_argument("names", nargs="*", help="experiments; default: all")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "clothes")
    parser.add_argument("--rounds", type=int, default=14, help="slices of each load")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a slice that is measured")
    parser.add_argument("--reference-seconds", type=float, default=1.5, help="of the closed loop before and after it")
    parser.add_argument("--deadline-ms", type=float, default=250.0, help="of each request in an open loop")
    help_of_measured = "compare with that measured.json, or with several as one; nothing is measured"
    parser.add_argument("--measured", type=Path, nargs="+", metavar="FILE", help=help_of_measured)
    parser.add_argument("--parameters", type=Path, default=measured_parameters.COMMITTED)
    parser.add_argument("--pinned", action="store_true", help="validate with each worker on a CPU of its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="write into docs/, too")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out")
    arguments = parser.parse_args(flags)
    if min(arguments.rounds, arguments.seconds, arguments.reference_seconds, arguments.deadline_ms) <= 0:
        parser.error("--rounds, --seconds, --reference-seconds and --deadline-ms must be positive")
    return arguments


def _validate(arguments: argparse.Namespace) -> int:
    """0 where rate, p50 and share refused of every load agree within 15 %, and enough slices are steady; else 1."""
    files = arguments.measured
    machine = measured.as_one([measured.read(one) for one in files]) if files else _measured(arguments)
    found, pairs, everything = validation.compare(machine)
    found.write(arguments.out / "parameters.json")
    text = tables.parameters_table(found) + "\n" + agreement.report(pairs, everything, machine.shares())
    (arguments.out / "validation.md").write_text(text, encoding="utf-8")
    (arguments.out / "validation.json").write_text(json.dumps([_row(one) for one in everything], indent=1) + "\n")
    plots.draw_validation(pairs, arguments.out / "fleet-validation.png")
    print(text)
    if arguments.keep:
        found.write(measured_parameters.COMMITTED)
        _keep("validation", text, arguments.out)
    outside = agreement.outside(pairs)
    print("\n".join(outside) or "Everything agrees within 15 %, p99 included.")
    return 1 if any("p99" not in line for line in outside) else 0


def _row(pair: agreement.Pair) -> dict[str, Any]:
    return {**asdict(pair), "measured": asdict(pair.measured), "simulated": asdict(pair.simulated)}


def _measured(arguments: argparse.Namespace) -> measured.Machine:
    plan = interleaving.Plan(
        arguments.rounds, arguments.seconds, arguments.reference_seconds, arguments.deadline_ms / 1000
    )
    adopt_orphans()
    try:
        machine = interleaving.measure(
            arguments.bundle, plan, arguments.out / "fleet-service.txt", is_pinned=arguments.pinned
        )
    finally:
        end_all()
    machine.write(arguments.out / "measured.json")
    return machine


def _simulate(arguments: argparse.Namespace) -> int:
    parameters = measured_parameters.read(arguments.parameters)
    known = experiments(parameters)
    for name in arguments.names:
        if name not in known:
            raise ValueError(f"The experiment is {name!r}; expected one of {', '.join(known)}.")
    texts, rows = [], {}
    for name in arguments.names or known:
        experiment = known[name]()
        outcomes = []
        for scenario in experiment.scenarios:
            print(f"{datetime.now(UTC):%H:%M:%S} {name}: {scenario.name}", file=sys.stderr, flush=True)
            outcomes.append(simulate(scenario, experiment.parameters, arguments.seed))
        texts.append(f"**{experiment.title}**\n\n{tables.experiment_table(experiment, outcomes)}")
        rows[name] = [tables.row_of(experiment, one) for one in outcomes]
        if name in _DRAWN:
            plots.draw(experiment.title, outcomes, arguments.out / f"fleet-{name}.png", _DRAWN[name])
        if arguments.keep:
            _keep(name, texts[-1], arguments.out)
        (arguments.out / "experiments.md").write_text("\n".join(texts), encoding="utf-8")
        (arguments.out / "experiments.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print("\n".join(texts))
    return 0


def _keep(name: str, text: str, out: Path) -> None:
    """Put a text into its place in docs/scale.md, and a plot of that name into docs/images."""
    _PAGE.write_text(tables.filled(_PAGE.read_text(encoding="utf-8"), name, text), encoding="utf-8")
    plot = out / f"fleet-{name}.png"
    if plot.is_file():
        shutil.copyfile(plot, _PAGE.parent / "images" / plot.name)


if __name__ == "__main__":
    sys.exit(main())
