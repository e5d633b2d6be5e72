"""scripts/bench: this service, the bare ceiling and the peers, side by side in one run. Writes tables, JSON and plots.

Everyone serves the same graph with the same decode code, on this machine, and every answer is checked. Takes hours in
full; --quick goes through all of it with figures that mean nothing.
"""

import argparse
import json
import logging
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from app.decoding.decoder import DecodeLimits, decode
from app.engine.engine import Engine, EngineOptions, open_engine
from app.errors import StartError
from app.system.cpu_limits import int8_instructions, usable_cpus
from benchmarks.serving import bundles, environments, plots
from benchmarks.serving.cells import BODIES, CONNECTIONS, Kind
from benchmarks.serving.client import ClientFailed
from benchmarks.serving.configurations import OURS, PEERS, Graph, chosen, configurations
from benchmarks.serving.contest import Ceiling, Subject, Terms, fastest, in_turn, take_turn
from benchmarks.serving.images import images
from benchmarks.serving.processes import adopt_orphans, end_all
from benchmarks.serving.results import Results, Turn
from benchmarks.serving.tables import Circumstances, markdown
from benchmarks.serving.workloads import Workload, prepare
from cli.bench.ceilings import Decode, classifyings
from cli.bench.rig import Opened, Split
from cli.bench.stopwatch import Candidate
from model.errors import MixerError
from model.preprocess import smallest_useful_side, to_patches
from model.spec import ModelSpec

ROOT = environments.ROOT
SMALL_MODEL, DEFAULT_MODEL, LARGE_MODEL = "small", "default", "S/16"
DEFAULT_BUNDLE = ROOT / "bundles" / "clothes"
CLOTHES = Kind("360x480 JPEG", DEFAULT_MODEL, 360, 480, "JPEG", "examples")
PHOTOGRAPHS = (
    Kind("500x375 JPEG", LARGE_MODEL, 500, 375, "JPEG"),
    Kind("4032x3024 JPEG", LARGE_MODEL, 4032, 3024, "JPEG", pool=6),
)
_LIMITS = DecodeLimits(max_bytes=20 << 20, max_pixels=50_000_000)
_BATCH_SIZES = (1, 2, 4, 8)  # of the ceiling
_LEAST_BATCH = 4  # of a peer that batches: where this service takes pictures one by one, batching has its chance


@dataclass(frozen=True)
class Field:
    """Who takes part: the folder of each server's programs, and why others cannot."""

    programs: dict[str, Path]
    refused: dict[str, str]


def main() -> int:
    """Measure, and write after every turn."""
    arguments = parsed(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
    logging.getLogger("mixer").setLevel(logging.WARNING)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        expect_client()
        adopt_orphans()
        with tempfile.TemporaryDirectory(prefix="bench-bodies-") as folder:
            measure(arguments, Path(folder))
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, ClientFailed, StartError, MixerError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    finally:
        end_all()
    return 0


def parsed(flags: Sequence[str]) -> argparse.Namespace:
    """Flags; --quick changes what was not said."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help="turns of every server (default: 5, with --quick 1)")
    parser.add_argument("--seconds", type=float, help="time of one measurement (default: 5, with --quick 0.5)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="servers whose name holds one of these")
    parser.add_argument("--workloads", nargs="+", default=[], metavar="NAME", help="28x28, 360x480, 500x375, 4032x3024")
    parser.add_argument("--bodies", nargs="+", choices=BODIES, default=list(BODIES))
    parser.add_argument("--connections", nargs="+", type=int, help="default: 1 8 32 128, with --quick 1 and 8")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "fashion-mnist", help="the small model")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "int8"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "benchmarks" / "cache", help="pictures and S/16, made once"
    )
    parser.add_argument("--quick", action="store_true", help="one short round: does everything work?")
    arguments = parser.parse_args(flags)
    quick = arguments.quick
    arguments.rounds = arguments.rounds or (1 if quick else 5)
    arguments.seconds = arguments.seconds or (0.5 if quick else 5.0)
    arguments.connections = arguments.connections or ([1, 8] if quick else list(CONNECTIONS))
    if arguments.rounds < 1 or arguments.seconds <= 0 or min(arguments.connections) < 1:
        parser.error("--rounds, --seconds and --connections must be positive")
    return arguments


def expect_client() -> None:
    """Raises ClientFailed without wrk."""
    if shutil.which("wrk") is None:
        raise ClientFailed("wrk is not on PATH; expected Debian's package wrk.")


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Prepare everything, then one turn after the other."""
    terms = Terms(arguments.seconds, arguments.rounds, arguments.bodies, arguments.connections, not arguments.quick)
    out: Path = arguments.out
    (out / "logs").mkdir(parents=True, exist_ok=True)
    subjects = prepared(arguments, terms, folder)
    field = gathered({one.peer for subject in subjects for one in subject.configurations})
    circumstances = described(arguments, subjects, field)
    entries = [(subject, one) for subject in subjects for one in subject.configurations if one.peer in field.programs]
    turns: list[Turn] = []
    for done, (number, (subject, one)) in enumerate(in_turn(entries, terms.rounds)):
        said = f"{done + 1} of {len(entries) * terms.rounds}: {one.name}, {subject.model}"
        print(f"{datetime.now(UTC):%H:%M:%S} {said}", file=sys.stderr, flush=True)
        log = out / "logs" / f"{number + 1}-{_file_name(subject.model)}-{_file_name(one.name)}.txt"
        turns.append(take_turn(number, subject, one, field.programs[one.peer], terms, log))
        write(out, circumstances, Results(turns))
    plots.draw(Results(turns), out)
    print((out / "results.md").read_text(encoding="utf-8"))


def prepared(arguments: argparse.Namespace, terms: Terms, folder: Path) -> list[Subject]:
    """The models whose workloads were asked for, opened, with pictures and ceilings."""
    small = opened(arguments.bundle, arguments.precision)
    kinds = wanted([small_kind(small.spec), CLOTHES, *PHOTOGRAPHS], arguments.workloads)
    subjects = []
    for model in dict.fromkeys(kind.model for kind in kinds):
        print(f"preparing {model}", file=sys.stderr, flush=True)
        bundle = bundle_of(model, arguments)
        engine = small if model == SMALL_MODEL else opened(bundle, arguments.precision)
        own = [kind for kind in kinds if kind.model == model]
        subjects.append(subject_of(model, bundle, engine, own, terms, arguments.only, arguments.cache, folder))
    return subjects


def bundle_of(model: str, arguments: argparse.Namespace) -> Path:
    """The small model is said by --bundle, the default one ships, and the large one is made once."""
    if model == SMALL_MODEL:
        return Path(arguments.bundle)
    return DEFAULT_BUNDLE if model == DEFAULT_MODEL else bundles.random_bundle(model, arguments.cache)


def opened(bundle: Path, precision: str) -> Engine:
    """An instance of one thread for each CPU: what the service chooses. Raises StartError."""
    options = EngineOptions(bundle, provider="cpu", precision=precision, instances=usable_cpus(), intra_op_threads=1)
    return open_engine(options)


def small_kind(spec: ModelSpec) -> Kind:
    """PNGs in the model's size: clothes where that is what it knows, else scenes."""
    size = spec.image_size
    clothes = spec.channels == 1 and size == 28
    return Kind(f"{size}x{size} PNG", SMALL_MODEL, size, size, "PNG", "examples" if clothes else "scenes", pool=40)


def wanted(kinds: Sequence[Kind], words: Sequence[str]) -> list[Kind]:
    """Those whose name holds one of the words; all without words. Raises ValueError where a word fits none."""
    for word in words:
        if not any(word.lower() in kind.name.lower() for kind in kinds):
            raise ValueError(f"--workloads is {word!r}; expected part of {', '.join(kind.name for kind in kinds)}.")
    return [kind for kind in kinds if not words or any(word.lower() in kind.name.lower() for word in words)]


def subject_of(
    model: str,
    bundle: Path,
    engine: Engine,
    kinds: Sequence[Kind],
    terms: Terms,
    only: Sequence[str],
    cache: Path,
    folder: Path,
) -> Subject:
    """One model with its workloads, ceilings and servers."""
    decoder = decoder_of(engine.spec)
    workloads = [
        prepare(kind, images(kind, engine.spec.channels, cache), engine.spec, decoder, engine.run, folder)
        for kind in kinds
    ]
    ceilings = {one.kind.name: ceiling_of(one, engine, decoder, terms) for one in workloads}
    graph = Graph(bundle, engine.precision, max(_LEAST_BATCH, engine.max_batch_size))
    return Subject(model, engine, workloads, ceilings, chosen(configurations(graph, usable_cpus()), only))


def decoder_of(spec: ModelSpec) -> Decode:
    """What everyone does to a picture file."""
    useful_side = smallest_useful_side(spec)
    return lambda payload: to_patches(decode(payload, spec.channels, useful_side, _LIMITS), spec)


def ceiling_of(workload: Workload, engine: Engine, decoder: Decode, terms: Terms) -> Ceiling:
    """Bare threads, in the batches that suit them."""
    one = Opened(engine.precision, Split(engine.instances, 1), engine.run)
    found = classifyings(one, workload.files, decoder, usable_cpus(), _BATCH_SIZES)
    candidates = [Candidate(each.key.batch_size, each.work, each.threads) for each in found]
    return fastest(candidates, min(1.0, terms.seconds), 1 if terms.rounds == 1 else 3)


def gathered(peers: set[str]) -> Field:
    """Every environment that is needed, made where it is missing."""
    programs, refused = {OURS: Path(sys.executable).parent} if OURS in peers else {}, {}
    for peer in (peer for peer in PEERS if peer in peers):
        try:
            programs[peer] = environments.prepare(peer)
        except environments.NotInstalled as error:
            refused[peer] = str(error)
    return Field(programs, refused)


def described(arguments: argparse.Namespace, subjects: Sequence[Subject], field: Field) -> Circumstances:
    """Machine, terms, versions."""
    return Circumstances(
        machine={
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "processor": processor(),
            "CPUs": f"{usable_cpus()}, int8 instructions: {int8_instructions() or 'none'}",
            "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
            "system": platform.platform(),
            "Python": platform.python_version(),
        },
        terms={
            "rounds": str(arguments.rounds),
            "seconds": f"{arguments.seconds:g}, more where many connections need them",
            "client": "wrk on the same machine",
        },
        versions={
            OURS: {"mixer-serve": version("mixer-serve"), **environments.versions(Path(sys.executable).parent)},
            **{peer: environments.versions(home) for peer, home in field.programs.items() if peer != OURS},
        },
        refused=field.refused,
        models={one.model: f"{one.engine.spec.name} in {one.engine.precision}" for one in subjects},
        workloads={work.kind.name: work.description for one in subjects for work in one.workloads},
    )


def processor() -> str:
    """Its name."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def write(out: Path, circumstances: Circumstances, results: Results) -> None:
    """results.json and results.md, as far as things have come."""
    content = {"circumstances": asdict(circumstances), "turns": [turn.as_json() for turn in results.turns]}
    (out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / "results.md").write_text(markdown(circumstances, results), encoding="utf-8")


def _file_name(text: str) -> str:
    return "".join(one if one.isalnum() else "-" for one in text.lower())


if __name__ == "__main__":
    sys.exit(main())
