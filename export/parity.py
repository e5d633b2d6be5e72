"""Is an exported graph the network it came from? Measured on pictures, at several batch sizes."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime

from export.to_onnx import INPUT, LOGITS
from model.checkpoint import torch_logits
from model.errors import ExportError
from model.evaluate import Logits
from model.mixer import MlpMixer
from model.preprocess import Pixels, patchify

FP32_TOLERANCE = 1e-4  # largest difference of a logit, relative to the range of the network's logits
_BATCH_SIZES = (1, 2, 7, 32)


@dataclass(frozen=True)
class Parity:
    """The largest difference relative to the logits' range, and how often the best label is the same."""

    num_pictures: int
    relative_difference: float
    top1_agreement: float


class GraphRunner:
    """An exported graph on the CPU, fed with pixels."""

    def __init__(self, path: Path, patch_size: int) -> None:
        self._patch_size = patch_size
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def logits(self, pixels: Pixels) -> Logits:
        """Logits float32 [n, K] of uint8 [n, H, W, C]."""
        (logits,) = self._session.run([LOGITS], {INPUT: patchify(np.ascontiguousarray(pixels), self._patch_size)})
        return cast(Logits, logits)


def measure(model: MlpMixer, path: Path, pixels: Pixels) -> Parity:
    """Compare torch and ONNX Runtime on uint8 [n, H, W, C], in batches of 1, 2, 7 and 32."""
    runner = GraphRunner(path, model.config.patch_size)
    expected = torch_logits(model, pixels)
    span = float(np.ptp(expected)) or 1.0
    difference, agreement = 0.0, 1.0
    for batch_size in _BATCH_SIZES:
        batches = [runner.logits(pixels[start : start + batch_size]) for start in range(0, len(pixels), batch_size)]
        found = np.concatenate(batches)
        difference = max(difference, float(np.abs(found - expected).max()) / span)
        agreement = min(agreement, float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()))
    return Parity(len(pixels), difference, agreement)


def expect_equal(parity: Parity, what: str) -> None:
    """Raises ExportError, naming the bar that was missed and by how much."""
    if not parity.relative_difference <= FP32_TOLERANCE:
        raise ExportError(
            f"{what} is not published: its logits differ from torch's by {parity.relative_difference:.3g} "
            f"of their range; expected at most {FP32_TOLERANCE:g}."
        )
    if parity.top1_agreement < 1:
        raise ExportError(
            f"{what} is not published: on {parity.num_pictures} pictures its best label is torch's for "
            f"{parity.top1_agreement:.2%}; expected all."
        )
