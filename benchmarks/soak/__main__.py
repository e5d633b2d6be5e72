"""scripts/soak: mixed traffic against a real service, every answer checked, with faults and restarts if you like.

Ends with 1 where an answer was wrong, an accepted request had none, or memory, threads or open files grew.
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import uvloop

from app.errors import StartError
from app.system.cpu_limits import usable_cpus
from benchmarks.serving.__main__ import ROOT, opened, processor, small_kind
from benchmarks.serving.images import images
from benchmarks.serving.processes import adopt_orphans, end_all
from benchmarks.soak.crowd import Crowd
from benchmarks.soak.director import Director, agenda
from benchmarks.soak.errands import Traffic, mixed
from benchmarks.soak.expectations import Oracle
from benchmarks.soak.images import drawn
from benchmarks.soak.instances import InstanceFailedError, Instances
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.proxy import Proxy
from benchmarks.soak.report import markdown
from benchmarks.soak.rolling import Rounds
from benchmarks.soak.shelf import Shelf
from model.errors import MixerError

_SETTLING = 100_000  # by then memory has settled; between 10,000 and 200,000 it grows by 6 %, and no further
_PERIOD_S = 10.0


def main() -> int:
    """Soak, then say how it went."""
    arguments = parsed(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.getLogger("mixer").setLevel(logging.WARNING)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        adopt_orphans()
        return soaked(arguments)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, StartError, MixerError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    finally:
        end_all()


def parsed(flags: Sequence[str]) -> argparse.Namespace:
    """Flags."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200_000, help="default: 200,000; more where faults take longer")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most; default: as long as it takes")
    parser.add_argument("--clients", type=int, default=32, help="connections, each with one errand at a time")
    parser.add_argument("--kills", type=int, default=0, help="times that a worker is killed with -9 (several workers)")
    parser.add_argument(
        "--restarts", type=int, default=0, help="times that a new service takes over, and the old one stops"
    )
    parser.add_argument(
        "--reloads", type=int, default=0, help="times that a service reloads: another version, then a broken one"
    )
    parser.add_argument(
        "--rolling-restarts", type=int, default=0, metavar="N",
        help="in place of the other faults: two services behind nginx, both restarted N times; nobody may be refused",
    )  # fmt: skip
    parser.add_argument(
        "--settling",
        type=int,
        help="requests before memory is weighed first (default: 100,000, or half of what lies between two faults)",
    )
    parser.add_argument("--growth", type=float, default=0.05, help="the most that anything may grow (default: 0.05)")
    parser.add_argument("--seed", type=int, default=0, help="of what is sent")
    parser.add_argument("--set", nargs="+", default=[], metavar="MIXER_NAME=VALUE", help="options of the service")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "fashion-mnist")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "int8"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out")
    parser.add_argument("--cache", type=Path, default=ROOT / "benchmarks" / "cache", help="pictures, made once")
    arguments = parser.parse_args(flags)
    if (
        min(arguments.requests, arguments.seconds, arguments.clients) <= 0
        or min(arguments.kills, arguments.restarts, arguments.reloads, arguments.rolling_restarts) < 0
    ):
        parser.error("--requests, --seconds and --clients must be positive, the numbers of faults not negative")
    if arguments.rolling_restarts and (arguments.kills or arguments.restarts or arguments.reloads):
        parser.error("--rolling-restarts goes without --kills, --restarts and --reloads")
    if any("=" not in one for one in arguments.set):
        parser.error("--set takes MIXER_NAME=VALUE")
    share = arguments.requests // (2 * (1 + arguments.kills + arguments.restarts))
    arguments.settling = arguments.settling or max(1, min(_SETTLING, share))
    return arguments


@dataclass(frozen=True)
class Prepared:
    """What is sent, with its right answers; the precision that gives them; what is reloaded, if anything is."""

    traffic: Traffic
    oracle: Oracle
    precision: str
    shelf: Shelf | None


def soaked(arguments: argparse.Namespace) -> int:
    """The whole of it; the exit code."""
    out: Path = arguments.out
    (out / "logs").mkdir(parents=True, exist_ok=True)
    prepared = prepare(arguments)
    bundle = arguments.bundle if prepared.shelf is None else prepared.shelf.bundle
    variables = {"MIXER_PRECISION": prepared.precision, **dict(option.split("=", 1) for option in arguments.set)}
    instances = Instances(["--bundle", str(bundle)], variables, out / "logs")
    ledger = Ledger(are_detours_fine=not arguments.rolling_restarts)
    uvloop.run(run(arguments, prepared, instances, ledger))
    circumstances = described(arguments, prepared.precision)
    content = {"circumstances": circumstances, "verdict": ledger.verdict(arguments.growth), **ledger.as_json()}
    (out / "soak.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / "soak.md").write_text(markdown(circumstances, ledger, arguments.growth), encoding="utf-8")
    print((out / "soak.md").read_text(encoding="utf-8"))
    return 1 if content["verdict"] else 0


def prepare(arguments: argparse.Namespace) -> Prepared:
    """Raises StartError."""
    engine = opened(arguments.bundle, arguments.precision)
    kind = small_kind(engine.spec)
    small = tuple(images(kind, engine.spec.channels, arguments.cache)) if kind.source == "examples" else ()
    shelf = Shelf(arguments.bundle, engine.precision, arguments.out / "reloaded") if arguments.reloads else None
    oracle = Oracle(engine, shelf.temperatures if shelf else None)
    behind_proxy = bool(arguments.rolling_restarts)
    traffic = mixed(drawn(engine.spec, small), oracle, Random(arguments.seed), behind_proxy=behind_proxy)
    return Prepared(traffic, oracle, engine.precision, shelf)


async def run(arguments: argparse.Namespace, prepared: Prepared, instances: Instances, ledger: Ledger) -> None:
    """Clients and faults, side by side. What goes wrong with a service ends it, and stands in the ledger."""
    started = time.monotonic()
    requests: int = arguments.requests
    seconds: float = arguments.seconds

    def progress() -> float:
        return max(crowd.sent / requests, (time.monotonic() - started) / seconds)

    def goes_on(sent: int) -> bool:
        return bool(director.left) or (sent < requests and time.monotonic() < started + seconds)

    proxy = Proxy(arguments.out / "nginx") if arguments.rolling_restarts else None
    rng = Random(arguments.seed + 1)
    crowd = Crowd(proxy or instances, prepared.traffic, ledger, rng, goes_on)
    director: Director | Rounds
    if proxy is not None:
        director = Rounds(instances, proxy, ledger, progress, arguments.rolling_restarts)
    else:
        director = Director(
            instances, crowd, ledger, Random(arguments.seed + 2), progress, arguments.settling,
            agenda(arguments.kills, arguments.restarts, arguments.reloads), prepared.shelf, prepared.oracle,
        )  # fmt: skip
    try:
        await director.start()
        started, client_s = time.monotonic(), time.process_time()
        working = asyncio.create_task(crowd.run(arguments.clients))
        telling = asyncio.create_task(_tell(crowd, ledger))
        try:
            await director.follow(working)
            await working
        finally:
            working.cancel()
            telling.cancel()
            await asyncio.gather(working, telling, return_exceptions=True)
            ledger.seconds, ledger.client_s = time.monotonic() - started, time.process_time() - client_s
        await director.end()
    except InstanceFailedError as error:
        ledger.failures.append(str(error))


def described(arguments: argparse.Namespace, precision: str) -> dict[str, str]:
    """Machine and terms."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "processor": f"{processor()}, {usable_cpus()} CPUs",
        "Python": platform.python_version(),
        "service": f"{arguments.bundle.name} in {precision}, {' '.join(arguments.set) or 'as it comes'}"
        + (", two of them behind nginx" if arguments.rolling_restarts else ""),
        "clients": f"{arguments.clients}, on the same machine; seed {arguments.seed}",
    }


async def _tell(crowd: Crowd, ledger: Ledger) -> None:
    while True:
        await asyncio.sleep(_PERIOD_S)
        faults = ", ".join(f"{count} {name}s" for name, count in ledger.faults.items())
        wrong = f"{ledger.count('wrong')} wrong, {ledger.count('lost')} lost"
        print(f"{datetime.now(UTC):%H:%M:%S} {crowd.sent:,} sent, {wrong} {faults}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
