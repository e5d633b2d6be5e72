"""What is measured: a bundle, pictures with their right answers, and the real service that has it. Knows no figures."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.engine.engine import Engine
from benchmarks.overload.requests import Request, requests_of
from benchmarks.serving.__main__ import decoder_of, opened, small_kind
from benchmarks.serving.cells import Kind
from benchmarks.serving.configurations import OURS, Configuration
from benchmarks.serving.environments import ROOT
from benchmarks.serving.images import images
from benchmarks.serving.server import Server, serving
from benchmarks.serving.workloads import Workload, prepare
from cli.bench.ceilings import Decode


@dataclass(frozen=True)
class Subject:
    """A model, how its pictures are decoded, and the requests that bring them."""

    bundle: Path
    engine: Engine
    decoder: Decode
    workload: Workload

    def requests(self, deadline_ms: float) -> list[Request]:
        """One for each picture, as a raw body."""
        return requests_of(self.workload, "raw", deadline_ms)


def subject_of(bundle: Path, folder: Path) -> Subject:
    """The photographs in examples/ for a model of photographs; for one of small pictures, such as it was trained on."""
    engine = opened(bundle, "auto")
    decoder = decoder_of(engine.spec)
    kind, files = _pictures(engine, folder)
    return Subject(bundle, engine, decoder, prepare(kind, files, engine.spec, decoder, engine.run, folder))


def _pictures(engine: Engine, folder: Path) -> tuple[Kind, list[bytes]]:
    if engine.spec.image_size <= 64:
        kind = small_kind(engine.spec)
        return kind, images(kind, engine.spec.channels, folder)
    files = [path.read_bytes() for path in sorted((ROOT / "examples").glob("*.jpg"))]
    return Kind("examples JPEG", engine.spec.name, 0, 0, "JPEG"), files


@contextmanager
def running(subject: Subject, log: Path, options: Sequence[str] = ()) -> Iterator[Server]:
    """The real service, ready, without access log, with options as MIXER_NAME=VALUE."""
    variables = {"MIXER_BUNDLE": str(subject.bundle), "MIXER_LOG_LEVEL": "warning"}
    chosen = dict(option.split("=", 1) for option in options)
    service = Configuration(OURS, OURS, ("mixer", "serve", "--port", "{port}"), {**variables, **chosen})
    with serving(service, Path(sys.executable).parent, subject.workload.probe("raw"), log) as server:
        yield server
