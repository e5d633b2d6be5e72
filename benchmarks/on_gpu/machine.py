"""Where everything runs: the device, bundles made on it, sessions and engines, sizes and times."""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnxruntime

from app.engine.engine import Engine, EngineOptions, open_engine
from app.engine.providers import PROVIDERS
from benchmarks.on_gpu.networks import random_mixer, spec_of
from cli.bench.stopwatch import Candidate, Measured, measure
from export.graph import write_metadata
from export.to_onnx import write_graph
from model.weights.config import VARIANTS, MixerConfig

SMALL = "the small model"  # that of --bundle
TINY = {"tiny": MixerConfig(16, 8, 16, 2, 8, 32, num_classes=5)}
SECONDS, HTTP_SECONDS = 0.25, 2.0
QUICK_SECONDS, QUICK_HTTP_SECONDS = 0.002, 0.3


@dataclass
class Machine:
    """Where everything runs, and what all sections share."""

    provider: str
    quick: bool
    bundle: Path
    work: Path  # for exported graphs and profiles; gone afterwards
    variants: dict[str, MixerConfig]
    batch_sizes: tuple[int, ...]
    seconds: float
    http_seconds: float
    rounds: int
    workers: tuple[int, ...]
    connections: tuple[int, ...]
    until: float
    wheels: Path | None
    bundles: dict[str, Path] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the sections that have run

    @property
    def device(self) -> str:
        """The device's name, the same for torch and for ONNX Runtime's memory."""
        return "cpu" if self.provider == "cpu" else "cuda"

    def out_of_time(self) -> bool:
        return time.monotonic() > self.until

    def open(self, bundle: Path, *, precision: str = "auto", max_batch_size: int = 32, instances: int = 0) -> Engine:
        return open_engine(
            EngineOptions(
                bundle, provider=self.provider, precision=precision, max_batch_size=max_batch_size, instances=instances
            )
        )

    def session(self, path: Path, **provider_options: str) -> Any:
        """A plain session of ONNX Runtime, nothing of ours around it."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self.provider == "cpu":
            options.intra_op_num_threads = 1
        name = self.device
        chosen = {} if name == "cpu" else {"use_tf32": "0", **provider_options}
        session = onnxruntime.InferenceSession(str(path), options, providers=[(PROVIDERS[name], chosen)])
        if session.get_providers()[0] != PROVIDERS[name]:
            raise RuntimeError(f"{path} runs on {session.get_providers()}; expected {PROVIDERS[name]}.")
        return session

    def time(self, candidates: Sequence[Candidate[Any]]) -> dict[Any, Measured]:
        return measure(candidates, seconds=self.seconds, rounds=self.rounds)

    def exported(self, name: str) -> Path:
        """A bundle of that variant in half precision with random weights, made at the first call."""
        if name not in self.bundles:
            folder = self.work / name.replace("/", "-")
            folder.mkdir()
            model = random_mixer(self.variants[name])
            write_graph(model, folder / "fp16.onnx", "fp16")
            write_metadata(folder / "fp16.onnx", spec_of(name, self.variants[name]), "fp16")
            self.bundles[name] = folder
        return self.bundles[name]


@contextmanager
def machine_for(options: argparse.Namespace) -> Iterator[Machine]:
    named = {name: replace(VARIANTS[name], gelu="erf") for name in options.variants.split(",")}  # timm's GELU
    chosen = TINY if options.quick else named
    until = time.monotonic() + options.time_limit_s if options.time_limit_s else float("inf")
    with tempfile.TemporaryDirectory() as folder:
        yield Machine(
            provider=options.provider,
            quick=options.quick,
            bundle=options.bundle,
            work=Path(folder),
            variants=chosen,
            batch_sizes=(1, 2) if options.quick else options.batch_sizes,
            seconds=QUICK_SECONDS if options.quick else options.seconds or SECONDS,
            http_seconds=QUICK_HTTP_SECONDS if options.quick else options.seconds or HTTP_SECONDS,
            rounds=1 if options.quick else options.rounds,
            workers=(1, 2) if options.quick else options.workers,
            connections=(2, 4) if options.quick else options.connections,
            until=until,
            wheels=options.wheels,
        )
