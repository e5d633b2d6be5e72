"""Checkpoint -> bundle: write the graph, prove it, give it a canary, publish it. Nothing unproved is ever in place."""

import base64
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from export.parity import GraphRunner, Parity, expect_equal, measure
from export.to_onnx import write_graph, write_metadata
from model.checkpoint import Checkpoint
from model.data import PictureSet
from model.errors import ExportError
from model.evaluate import evaluate
from model.preprocess import Pixels, to_square
from model.spec import Canary, Metrics, ModelSpec

_CANARY_TOLERANCE = 1e-3  # of the logits' range: processors round differently, wrong answers are far off
_NUM_GENERATED = 32


@dataclass(frozen=True)
class Published:
    """The file that was written and what was found about it."""

    path: Path
    spec: ModelSpec
    parity: Parity


def publish(
    checkpoint: Checkpoint, bundle: Path, *, pictures: Pixels | None = None, test: tuple[str, PictureSet] | None = None
) -> Published:
    """Write `bundle`/fp32.onnx.

    pictures: uint8 [n, H, W, C] to prove it with; the checkpoint's own, else generated ones. test: the name and
    pictures of a data set on which the graph itself is measured for the spec's metrics.

    Raises: ExportError; whatever stood in `bundle` before is then untouched.
    """
    proof = pictures if pictures is not None else checkpoint.pictures
    if proof is None:
        proof = generated_pictures(checkpoint.spec)
    try:
        bundle.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=bundle, prefix=".export-") as folder:
            path = Path(folder) / "fp32.onnx"
            write_graph(checkpoint.model, path)
            runner = GraphRunner(path, checkpoint.spec.patch_size)
            spec = checkpoint.spec.model_copy(update={"canary": _canary(runner, checkpoint.spec, proof[0])})
            if test is not None:
                spec = spec.model_copy(update={"metrics": _metrics(runner, spec.temperature, *test)})
            write_metadata(path, spec, "fp32")
            parity = measure(checkpoint.model, path, proof)
            expect_equal(parity, str(bundle / path.name))
            return Published(path.replace(bundle / path.name), spec, parity)
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


def _canary(runner: GraphRunner, spec: ModelSpec, pixels: Pixels) -> Canary:
    square = to_square(pixels, spec.image_size, spec.fit, spec.interpolation)  # the service will crop it once more
    logits = runner.logits(square[np.newaxis])[0]
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG", optimize=True)
    return Canary(
        picture=base64.b64encode(file.getvalue()).decode(),
        logits=tuple(float(logit) for logit in logits),
        atol=max(float(np.ptp(logits)), 1e-3) * _CANARY_TOLERANCE,
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
