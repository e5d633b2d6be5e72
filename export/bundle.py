"""Checkpoint -> bundle: write the graphs, prove each, give each a canary, publish them.

Nothing unproved is ever in place.
"""

import base64
import io
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from export.parity import GraphRunner, Parity, expect_accurate, expect_equal, measure
from export.quantize import write_int8
from export.to_onnx import write_graph, write_metadata
from model.checkpoint import Checkpoint
from model.data import PictureSet
from model.errors import ExportError
from model.evaluate import evaluate
from model.preprocess import Pixels, to_square
from model.spec import Canary, Metrics, ModelSpec, Network, Precision

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_CANARY_TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "int8": 1e-2}
"""Of the logits' range: processors round differently, and wrong answers are far off.

In int8, a value on the edge between two bytes may become the other one. Products that saturate are off by more.
"""
_NUM_GENERATED = 32


@dataclass(frozen=True)
class Evidence:
    """The pictures that a bundle is made with, uint8 [n, H, W, C].

    proof: to compare every graph with torch on. calibration: whose activations give int8 its scales; None: no int8.
    test: the name and pictures of a data set on which every graph is measured.
    """

    proof: Pixels
    calibration: Pixels | None = None
    test: tuple[str, PictureSet] | None = None

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Those that can be made with these pictures."""
        return PRECISIONS if self.calibration is not None else tuple(p for p in PRECISIONS if p != "int8")


@dataclass(frozen=True)
class Graph:
    """A file that was written and what was found about it."""

    path: Path
    spec: ModelSpec
    parity: Parity


@dataclass(frozen=True)
class Published:
    """The graphs of a bundle by precision, and why others were left out."""

    graphs: Mapping[Precision, Graph]
    refused: Mapping[Precision, str]


def evidence_of(checkpoint: Checkpoint) -> Evidence:
    """What a checkpoint itself brings: its own pictures, or generated ones, which calibrate nothing."""
    if checkpoint.pictures is None:
        return Evidence(generated_pictures(checkpoint.spec))
    return Evidence(checkpoint.pictures, calibration=checkpoint.pictures)


def publish(
    checkpoint: Checkpoint,
    bundle: Path,
    evidence: Evidence | None = None,
    precisions: Collection[Precision] = PRECISIONS,
) -> Published:
    """Write the graphs of `precisions`, fp32 always, that reach their bars; what `bundle` held in others is removed.

    Raises: ExportError where fp32 does not reach its bar; whatever stood in `bundle` before is then untouched.
    """
    evidence = evidence or evidence_of(checkpoint)
    try:
        bundle.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=bundle, prefix=".export-") as folder:
            fp32 = _made("fp32", checkpoint, evidence, Path(folder), None)
            graphs: dict[Precision, Graph] = {"fp32": fp32}
            refused: dict[Precision, str] = {}
            for precision in (other for other in PRECISIONS if other in precisions and other != "fp32"):
                try:
                    graphs[precision] = _made(precision, checkpoint, evidence, Path(folder), fp32)
                except ExportError as error:
                    refused[precision] = str(error)
            return Published(_put_in_place(graphs, bundle), refused)
    except OSError as error:
        raise ExportError(f"{bundle} cannot be written: {error}") from error


def generated_pictures(spec: ModelSpec) -> Pixels:
    """Gradients, stripes and noise, uint8 [32, H, W, C]: for a checkpoint that came without pictures."""
    generator = np.random.default_rng(0)
    size = spec.image_size
    ramp = np.linspace(0, 1, size)
    pictures = []
    for index in range(_NUM_GENERATED):
        angle, frequency = generator.uniform(0, np.pi), generator.uniform(0.5, 8)
        phase = np.add.outer(ramp * np.sin(angle), ramp * np.cos(angle))[..., np.newaxis]
        waves = 127.5 + 127.5 * np.sin(2 * np.pi * frequency * phase + generator.uniform(0, 6, spec.channels))
        noise = generator.normal(0, 4 * index, (size, size, spec.channels))
        pictures.append((waves + noise).clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


def _made(precision: Precision, checkpoint: Checkpoint, evidence: Evidence, folder: Path, fp32: Graph | None) -> Graph:
    """One graph in `folder`, proved. Raises ExportError."""
    path = folder / f"{precision}.onnx"
    _write(precision, checkpoint, evidence, path)
    runner = GraphRunner(path, checkpoint.spec.patch_size, precision)
    parity = measure(checkpoint.model, runner, evidence.proof)
    expect_equal(parity, precision)
    spec = _completed(checkpoint, evidence, runner, precision)
    if fp32 is not None and fp32.spec.metrics is not None and spec.metrics is not None and evidence.test is not None:
        expect_accurate(spec.metrics, fp32.spec.metrics, precision)
    write_metadata(path, spec, precision)
    return Graph(path, spec, parity)


def _write(precision: Precision, checkpoint: Checkpoint, evidence: Evidence, path: Path) -> None:
    if precision != "int8":
        write_graph(checkpoint.model, path, precision)
    elif evidence.calibration is None:
        raise ExportError("int8.onnx is not published: there are no pictures to take its scales from; expected some.")
    else:
        rows = path.with_name("rows.onnx")
        write_graph(checkpoint.model, rows, "rows")
        write_int8(rows, path, evidence.calibration, checkpoint.spec.patch_size)


def _completed(checkpoint: Checkpoint, evidence: Evidence, runner: GraphRunner, precision: Precision) -> ModelSpec:
    """The spec with what only the graph itself can tell: its canary, its metrics; and the network's sizes."""
    spec, config = checkpoint.spec, checkpoint.model.config
    found: dict[str, object] = {
        "network": Network(**{size: getattr(config, size) for size in Network.model_fields}),
        "canary": _canary(runner, spec, evidence.proof[0], _CANARY_TOLERANCE[precision]),
    }
    if evidence.test is not None:
        found["metrics"] = _metrics(runner, spec.temperature, *evidence.test)
    return spec.model_copy(update=found)


def _put_in_place(graphs: Mapping[Precision, Graph], bundle: Path) -> dict[Precision, Graph]:
    """Move the graphs into the bundle; those it held in other precisions are of another network, and go."""
    placed = {p: replace(graph, path=graph.path.replace(bundle / graph.path.name)) for p, graph in graphs.items()}
    for precision in PRECISIONS:
        if precision not in graphs:
            (bundle / f"{precision}.onnx").unlink(missing_ok=True)
    return placed


def _canary(runner: GraphRunner, spec: ModelSpec, pixels: Pixels, tolerance: float) -> Canary:
    square = to_square(pixels, spec.image_size, spec.fit, spec.interpolation)  # the service will crop it once more
    logits = runner.logits(square[np.newaxis])[0]
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG", optimize=True)
    return Canary(
        picture=base64.b64encode(file.getvalue()).decode(),
        logits=tuple(float(logit) for logit in logits),
        atol=max(float(np.ptp(logits)), 1e-3) * tolerance,
    )


def _metrics(runner: GraphRunner, temperature: float, data_set: str, pictures: PictureSet) -> Metrics:
    evaluation = evaluate(runner.logits, pictures, temperature=temperature)
    return Metrics(
        data_set=data_set,
        num_pictures=evaluation.num_pictures,
        top1=evaluation.top1,
        top5=evaluation.top5,
        calibration_error=evaluation.calibration_error,
    )
