"""This service beyond its capacity: Poisson arrivals at multiples of what a closed loop reaches just before.

One process sends, many keep-alive connections, each request with its deadline; every answer is checked. Writes
overload.json, overload.md and a PNG for each workload.
"""

import argparse
import json
import logging
import os
import platform
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from app.errors import StartError
from app.system.cpu_limits import usable_cpus
from benchmarks.overload import plots
from benchmarks.overload.loops import OpenLoop, Terms, closed_loop
from benchmarks.overload.processor import Processor
from benchmarks.overload.requests import Request, requests_of
from benchmarks.overload.results import Results, Round, judged
from benchmarks.overload.tables import markdown
from benchmarks.serving.__main__ import (
    CLOTHES,
    DEFAULT_MODEL,
    LARGE_MODEL,
    PHOTOGRAPHS,
    ROOT,
    SMALL_MODEL,
    bundle_of,
    decoder_of,
    opened,
    processor,
    small_kind,
    wanted,
)
from benchmarks.serving.cells import BODIES, Kind
from benchmarks.serving.configurations import OURS, Configuration
from benchmarks.serving.images import images
from benchmarks.serving.processes import adopt_orphans, descendants, end_all
from benchmarks.serving.server import Server, StartFailed, serving
from benchmarks.serving.workloads import Workload, prepare
from model.errors import MixerError

LOADS = (0.5, 1.0, 2.0, 4.0)
_DEADLINES_MS = {SMALL_MODEL: 250.0, DEFAULT_MODEL: 250.0, LARGE_MODEL: 2000.0}
_CALM = 0.5  # of the capacity, while second tries are still to come
_OPEN_FILES = 4096


def main() -> int:
    """Measure, and write after every round."""
    arguments = parsed(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.getLogger("mixer").setLevel(logging.WARNING)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        adopt_orphans()
        _allow_open_files()
        with tempfile.TemporaryDirectory(prefix="bench-bodies-") as folder:
            measure(arguments, Path(folder))
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, StartError, StartFailed, MixerError) as error:
        print(f"overload: {error}", file=sys.stderr)
        return 2
    finally:
        end_all()
    return 0


def parsed(flags: Sequence[str]) -> argparse.Namespace:
    """Flags; --quick changes what was not said."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overload", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help="default: 3, with --quick 1")
    parser.add_argument(
        "--seconds", type=float, help="of the window that counts, for a load (default: 10, with --quick 1)"
    )
    parser.add_argument("--loads", nargs="+", type=float, default=list(LOADS), help="multiples of the capacity")
    parser.add_argument("--deadline-ms", type=float, help="of every request (default: 250; for S/16 2000)")
    parser.add_argument("--connections", type=int, default=32, help="of the closed loop, and opened beforehand")
    parser.add_argument("--retry-share", type=float, default=0.05, help="of the refused that try once more")
    parser.add_argument("--seed", type=int, default=0, help="of the arrivals")
    parser.add_argument("--body", choices=BODIES, default="raw")
    parser.add_argument(
        "--workloads", nargs="+", default=[], metavar="NAME", help="as of scripts/bench (default: all but 4032x3024)"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="MIXER_NAME=VALUE", help="options of the service")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "fashion-mnist", help="the small model")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "int8"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "benchmarks" / "cache", help="pictures and S/16, made once"
    )
    parser.add_argument("--quick", action="store_true", help="one short round: does everything work?")
    arguments = parser.parse_args(flags)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.seconds = arguments.seconds or (1.0 if arguments.quick else 10.0)
    positive = (arguments.rounds, arguments.seconds, arguments.connections, *arguments.loads)
    if min(positive) <= 0 or not 0 <= arguments.retry_share <= 1 or (arguments.deadline_ms or 1) <= 0:
        parser.error("--rounds, --seconds, --connections, --loads and --deadline-ms must be positive, a share 0 to 1")
    if any("=" not in one for one in arguments.set):
        parser.error("--set takes MIXER_NAME=VALUE")
    return arguments


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """One workload after the other, a service of its own for each."""
    out: Path = arguments.out
    (out / "logs").mkdir(parents=True, exist_ok=True)
    rounds: list[Round] = []
    deadlines_ms: dict[str, float] = {}
    circumstances = described(arguments)
    for kind in _kinds(arguments):
        workload, bundle, precision = _prepared(kind, arguments, folder)
        deadline_ms = deadlines_ms[kind.name] = arguments.deadline_ms or _DEADLINES_MS[kind.model]
        circumstances[f"workload {kind.name}"] = f"{workload.description}, {precision}"
        requests = requests_of(workload, arguments.body, deadline_ms)
        log = out / "logs" / f"overload-{kind.name.replace(' ', '-').lower()}.txt"
        service = _service(bundle, precision, arguments.set)
        with serving(service, Path(sys.executable).parent, workload.probe(arguments.body), log) as server:
            for number in range(arguments.rounds):
                rounds.append(_round(number, kind.name, server, requests, deadline_ms / 1000, arguments))
                write(out, circumstances, Results(rounds, deadlines_ms, usable_cpus()))
    plots.draw(Results(rounds, deadlines_ms, usable_cpus()), out)
    print((out / "overload.md").read_text(encoding="utf-8"))


def write(out: Path, circumstances: dict[str, str], results: Results) -> None:
    """overload.json and overload.md, as far as things have come."""
    content = {"circumstances": circumstances, "deadlines_ms": results.deadlines_ms, "rounds": results.as_json()}
    (out / "overload.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / "overload.md").write_text(markdown(circumstances, results), encoding="utf-8")


def described(arguments: argparse.Namespace) -> dict[str, str]:
    """Machine and terms."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "processor": f"{processor()}, {usable_cpus()} CPUs",
        "Python": platform.python_version(),
        "rounds": f"{arguments.rounds}, {arguments.seconds:g} s for a load",
        "client": f"on the same machine; {arguments.body} bodies; seed {arguments.seed}",
        "service": " ".join(arguments.set) or "as it comes, without access log",
    }


def _kinds(arguments: argparse.Namespace) -> list[Kind]:
    small = small_kind(opened(arguments.bundle, arguments.precision).spec)
    return wanted([small, CLOTHES, *PHOTOGRAPHS], arguments.workloads or [small.name, CLOTHES.name, "500x375"])


def _prepared(kind: Kind, arguments: argparse.Namespace, folder: Path) -> tuple[Workload, Path, str]:
    """Pictures with their right answers, the bundle and the precision that answers."""
    print(f"preparing {kind.name}", file=sys.stderr, flush=True)
    bundle = bundle_of(kind.model, arguments)
    engine = opened(bundle, arguments.precision)
    files = images(kind, engine.spec.channels, arguments.cache)
    return prepare(kind, files, engine.spec, decoder_of(engine.spec), engine.run, folder), bundle, engine.precision


def _service(bundle: Path, precision: str, options: Sequence[str]) -> Configuration:
    variables = {"MIXER_BUNDLE": str(bundle), "MIXER_PRECISION": precision, "MIXER_LOG_LEVEL": "warning"}
    chosen = dict(option.split("=", 1) for option in options)
    return Configuration(OURS, OURS, ("mixer", "serve", "--port", "{port}"), {**variables, **chosen})


def _round(
    number: int,
    name: str,
    server: Server,
    requests: Sequence[Request],
    deadline_s: float,
    arguments: argparse.Namespace,
) -> Round:
    terms = Terms(
        arguments.seconds, max(min(1.0, arguments.seconds), deadline_s), deadline_s, arguments.connections,
        retry_share=arguments.retry_share,
    )  # fmt: skip
    usage = Processor([process for process in descendants(os.getpid()) if process not in server.spared])
    rng = Random(f"{arguments.seed} {name} {number}")
    _say(f"{name}, round {number + 1}: the capacity")
    capacity = judged(closed_loop(server.port, requests, terms, rng, usage), 0.0, deadline_s)
    if not capacity.goodput_s:
        raise ValueError(f"{name}: no right answer within {deadline_s:g} s in a closed loop; {capacity.faults}.")
    loads = []
    for times in arguments.loads:
        rate = times * capacity.goodput_s
        _say(f"{name}, round {number + 1}: {times:g} times {capacity.goodput_s:.0f}/s")
        loop = OpenLoop(server.port, requests, rate, _CALM * capacity.goodput_s, terms, rng)
        loads.append(judged(loop.run(usage), times, deadline_s))
    return Round(name, number, capacity, tuple(loads))


def _say(words: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {words}", file=sys.stderr, flush=True)


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted_files = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted_files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted_files, hard))


if __name__ == "__main__":
    sys.exit(main())
