"""Pillow, as it is used here, against the libraries that are picked for speed: a file to patches, in one thread.

    python -m benchmarks.decode_libraries [--rounds 21] [--seconds 0.08] [--workloads 500x375] [--only kornia]
    python -m benchmarks.decode_libraries --answers [--pictures FOLDER] [--most 60]

Speed: all libraries in turn, round by round, for the three sizes of JPEG and three PNGs, at 28 pixels for fashion-mnist
and at 224 as S/16 takes them, and for photographs as `clothes` does. It is by the time of a processor, as others may
use the machine; then beside a thread that is busy in Python: does a library let go of the interpreter's lock? Each
library comes behind the service's checks of the header, unless --bare. Answers: of the two bundles in int8, against
today's path.

Runs itself again with the programs of .venv-bench/decoding, installed from benchmarks/constraints-decoding.txt where
they are not. PyTurboJPEG takes Debian's libturbojpeg0. Prints Markdown.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from PIL import features

from app.engine.engine import Engine, EngineOptions, open_engine
from app.errors import StartError
from benchmarks.agreement import agreement, probabilities
from benchmarks.decode_libraries import tables, workloads
from benchmarks.decode_libraries.libraries import Missing, libraries
from benchmarks.decode_libraries.paths import TODAY, Library
from benchmarks.decode_libraries.workloads import Workload
from benchmarks.serving.environments import ROOT, NotInstalled, prepare
from cli.bench.stopwatch import Candidate, Measured, measure
from model.spec import ModelSpec

ENVIRONMENT = "decoding"
BUNDLES = ("fashion-mnist", "clothes")
PACKAGES = (
    "pillow", "simplejpeg", "PyTurboJPEG", "pyvips", "pyvips-binary", "kornia-rs", "imagecodecs",
    "opencv-python-headless",
)  # fmt: skip
ONE_THREAD = {"VIPS_CONCURRENCY": "1", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


def main() -> int:
    """Go to the environment that has the libraries; there, measure."""
    options = parsed(sys.argv[1:])
    try:
        if not options.here:
            return elsewhere(sys.argv[1:])
        print(circumstances())
        engines = {name: opened(name) for name in BUNDLES}
        (print_answers if options.answers else print_speed)(engines, options)
    except (NotInstalled, StartError, ValueError) as error:
        print(f"decode_libraries: {error}", file=sys.stderr)
        return 2
    return 0


def parsed(flags: Sequence[str]) -> argparse.Namespace:
    """Flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", action="store_true", help="compare answers; nothing is timed")
    parser.add_argument("--bare", action="store_true", help="libraries without the service's checks of the header")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.08, help="time of one measurement")
    parser.add_argument("--workloads", nargs="+", default=[], metavar="WORDS", help="those whose name holds one")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORDS", help="libraries whose name holds one")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="photographs (default: those of examples/)")
    parser.add_argument("--most", type=int, default=60, help="of the photographs, evenly chosen")
    parser.add_argument("--cache", type=Path, default=ROOT / "benchmarks" / "cache", help="drawn pictures, made once")
    parser.add_argument("--here", action="store_true", help="with the libraries of this environment")
    options = parser.parse_args(flags)
    if options.rounds < 2 or options.seconds <= 0 or options.most < 1:
        parser.error("--rounds must be 2 or more, --seconds and --most positive")
    return options


def elsewhere(flags: Sequence[str]) -> int:
    """The same once more, by the interpreter beside the libraries. Raises NotInstalled."""
    python = prepare(ENVIRONMENT) / "python"
    command = [str(python), "-m", "benchmarks.decode_libraries", "--here", *flags]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, check=False).returncode


def circumstances() -> str:
    """Versions, in a line."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    own = f"Pillow's libjpeg-turbo {features.version('libjpeg_turbo')}, zlib {features.version('zlib')}"
    return f"{', '.join(found)}; {own}; Python {sys.version.split()[0]}"


def opened(bundle: str) -> Engine:
    """A bundle's int8 graph on one thread."""
    folder = ROOT / "bundles" / bundle
    return open_engine(EngineOptions(folder, "cpu", "int8", instances=1, intra_op_threads=1, max_batch_size=1))


def usable(options: argparse.Namespace) -> Iterator[Library]:
    """The libraries that are there and asked for, today's path always; the others are named."""
    for one in libraries(bare=options.bare):
        if isinstance(one, Missing):
            print(f"not measured: {one.reason}")
        elif one.name == TODAY or not options.only or any(words in one.name for words in options.only):
            yield one


def chosen(found: Sequence[Workload], wanted: Sequence[str]) -> list[Workload]:
    """Those whose name holds one of the words. Raises ValueError for words that none has."""
    for words in wanted:
        if not any(words in one.name for one in found):
            names = ", ".join(one.name for one in found)
            raise ValueError(f"--workloads is {words!r}; expected part of {names}.")
    return [one for one in found if not wanted or any(words in one.name for words in wanted)]


def print_speed(engines: dict[str, Engine], options: argparse.Namespace) -> None:
    """One table for every workload."""
    able = list(usable(options))
    paths = workloads.photographs(options.pictures, options.most)
    for workload in chosen(workloads.timed(*specs(engines), paths, options.cache), options.workloads):
        files = workload.files()
        mine = [one for one in able if one.can(workload.kind, workload.spec)]
        found = timed(mine, workload, files, options)
        free = {one.name: free_share(work_of(one, workload, files), 2 * options.seconds) for one in mine}
        print(f"\n### {workload.name}, {sum(map(len, files)) // len(files)} bytes on average\n\n{tables.SPEED_HEAD}")
        for one in mine:
            print(tables.speed_row(one.name, one.resize, found[one.name], found[TODAY], free[one.name]))
        names = tables.reaching(found, TODAY)
        print(f"\nAt least {tables.WANTED} times as fast: {', '.join(names) or 'none'}.", flush=True)


def work_of(one: Library, workload: Workload, files: Sequence[bytes]) -> Callable[[], float]:
    """Every file once; how many they are."""

    def work() -> float:
        for payload in files:
            one.way(payload, workload.spec)
        return len(files)

    return work


def timed(
    able: Sequence[Library], workload: Workload, files: Sequence[bytes], options: argparse.Namespace
) -> dict[str, Measured]:
    """Pictures a second of a processor, by library: others may use the machine, too."""
    candidates = [Candidate(one.name, work_of(one, workload, files)) for one in able]
    return measure(candidates, rounds=options.rounds, seconds=options.seconds, clock=time.process_time)


def free_share(work: Callable[[], float], seconds: float) -> float:
    """How long another thread runs Python for each second that `work` computes: about 1, or 0 where it is kept out."""
    done = threading.Event()
    usual = sys.getswitchinterval()

    def other() -> float:
        while not done.is_set():
            pass
        return time.thread_time()

    with ThreadPoolExecutor(1) as pool:
        sys.setswitchinterval(1e-4)  # or each return to Python would leave the other 5 ms
        future = pool.submit(other)
        started = time.thread_time()
        try:
            while (elapsed := time.thread_time() - started) < seconds:
                work()
        finally:
            done.set()
            sys.setswitchinterval(usual)
        return future.result() / elapsed


def print_answers(engines: dict[str, Engine], options: argparse.Namespace) -> None:
    """One table for every workload that a classifier judges."""
    able = list(usable(options))
    paths = workloads.photographs(options.pictures, options.most)
    for workload in chosen(workloads.judged(*specs(engines), paths, options.cache), options.workloads):
        files, engine = workload.files(), engines[str(workload.bundle)]
        mine = [one for one in able if one.can(workload.kind, workload.spec)]
        patches = {one.name: [one.way(payload, workload.spec) for payload in files] for one in mine}
        answers = {name: np.stack([probabilities(engine, one) for one in made]) for name, made in patches.items()}
        print(f"\n### {workload.name}: {workload.bundle} in int8, {len(files)} pictures\n\n{tables.ANSWERS_HEAD}")
        for name, own in answers.items():
            differing = tables.difference(patches[name], patches[TODAY])
            print(tables.answers_row(name, agreement(answers[TODAY], own), differing), flush=True)


def specs(engines: dict[str, Engine]) -> tuple[ModelSpec, ModelSpec]:
    """Of the two bundles, in their order."""
    small, clothes = (engines[name].spec for name in BUNDLES)
    return small, clothes


if __name__ == "__main__":
    sys.exit(main())
