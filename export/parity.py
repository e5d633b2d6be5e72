"""Compares an exported graph with what its network answers. Each precision has its own thresholds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime

from export.graph import INPUT, LOGITS
from model.errors import ExportError
from model.evaluation.evaluate import Logits
from model.preprocess import Pixels, patchify
from model.spec import Metrics, Precision


@dataclass(frozen=True)
class Thresholds:
    """What a graph must reach to be published.

    Differences of logits are relative to the range of the network's logits: `difference` from these, and
    `batch_difference` between the same picture's in batches of different sizes. `agreement` is the share of pictures
    whose best label must be the network's, less one picture or what chance adds. `lost_points` are the hundredths of
    top-1 that may be lost against fp32 on labelled pictures.
    """

    difference: float
    batch_difference: float
    agreement: float
    lost_points: float


THRESHOLDS: Mapping[Precision, Thresholds] = {
    "fp32": Thresholds(difference=1e-4, batch_difference=1e-5, agreement=1.0, lost_points=0.0),
    "fp16": Thresholds(difference=2e-2, batch_difference=2e-3, agreement=0.99, lost_points=0.05),
    "int8": Thresholds(difference=2e-1, batch_difference=2e-3, agreement=0.97, lost_points=0.2),
}

_BATCH_SIZE = 32
_OTHER_BATCH_SIZES = (1, 2, 7)
_NUM_REPEATED = 4


@dataclass(frozen=True)
class Parity:
    """Differences are relative to the range of the network's logits; agreement is that of the best label.

    `batch_difference` is the largest between the answers to the same picture in batches of different sizes.
    `judge`: what computed the network's logits.
    """

    num_pictures: int
    relative_difference: float
    top1_agreement: float
    batch_difference: float
    judge: str = "torch"


class GraphRunner:
    """An exported graph on the CPU, fed with pixels.

    An fp16 graph runs without optimizations, which would remove more of its rounding. ONNX Runtime 1.32 removes
    most of it either way: it computes in float between casts that it drops, where a GPU rounds every result.
    """

    def __init__(self, path: Path, patch_size: int, precision: Precision = "fp32") -> None:
        self._patch_size = patch_size
        options = onnxruntime.SessionOptions()
        if precision == "fp16":
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def logits(self, pixels: Pixels) -> Logits:
        """Logits float32 [n, K] of uint8 [n, H, W, C]."""
        (logits,) = self._session.run([LOGITS], {INPUT: patchify(np.ascontiguousarray(pixels), self._patch_size)})
        return cast(Logits, logits)


def measure(expected: Logits, runner: GraphRunner, pixels: Pixels, judge: str = "torch") -> Parity:
    """Compare the network's logits [n, K], which `judge` computed, with ONNX Runtime's on uint8 [n, H, W, C].

    The first pictures and their negatives are also run in batches of several sizes, so that each has other neighbours.
    """
    span = float(np.ptp(expected)) or 1.0
    found = _in_batches(runner, pixels, _BATCH_SIZE)
    repeated = np.concatenate([pixels[:_NUM_REPEATED], 255 - pixels[:_NUM_REPEATED]])
    together = runner.logits(repeated)
    others = [_in_batches(runner, repeated, batch_size) for batch_size in _OTHER_BATCH_SIZES]
    return Parity(
        num_pictures=len(pixels),
        relative_difference=float(np.abs(found - expected).max()) / span,
        top1_agreement=float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        batch_difference=max(float(np.abs(other - together).max()) for other in others) / span,
        judge=judge,
    )


def expect_equal(parity: Parity, precision: Precision) -> None:
    """One picture may have another best label, and so may two standard deviations more than the threshold's share.

    Raises ExportError, naming the threshold that was missed and by how much.
    """
    thresholds = THRESHOLDS[precision]
    if not parity.relative_difference <= thresholds.difference:
        raise _refusal(
            precision,
            f"its logits differ from {parity.judge}'s by {parity.relative_difference:.3g} of their range",
            f"at most {thresholds.difference:g}",
        )
    if not parity.batch_difference <= thresholds.batch_difference:
        raise _refusal(
            precision,
            f"a picture's logits differ from one batch to another by {parity.batch_difference:.3g} of their range",
            f"at most {thresholds.batch_difference:g}",
        )
    others = round((1 - parity.top1_agreement) * parity.num_pictures)
    share = (1 - thresholds.agreement) * parity.num_pictures
    allowed = int(max(1, share + 2 * math.sqrt(share))) if share else 0
    if others > allowed:
        raise _refusal(
            precision,
            f"on {others} of {parity.num_pictures} pictures its best label is not {parity.judge}'s",
            f"at most {allowed}",
        )


def expect_accurate(found: Metrics, fp32: Metrics, precision: Precision, top1_agreement: float = 1.0) -> None:
    """`found` against what the fp32 graph reached on the same pictures. One picture may always be lost.

    So may two standard deviations of what chance would lose, if each picture on which the labels differ (a share of
    1 - top1_agreement) were right in one graph or in the other by the throw of a coin.

    Raises: ExportError, naming the threshold that was missed and by how much.
    """
    lost = round((fp32.top1 - found.top1) * fp32.num_pictures)
    by_chance = 2 * math.sqrt((1 - top1_agreement) * fp32.num_pictures)
    allowed = max(1, int(THRESHOLDS[precision].lost_points / 100 * fp32.num_pictures), int(by_chance))
    if lost > allowed:
        raise _refusal(
            precision,
            f"its top-1 is {found.top1:.2%} and fp32's {fp32.top1:.2%}, {lost} of {fp32.num_pictures} pictures less",
            f"at most {allowed} less",
        )


def _refusal(precision: Precision, found: str, expected: str) -> ExportError:
    return ExportError(f"{precision}.onnx is not published: {found}; expected {expected}.")


def _in_batches(runner: GraphRunner, pixels: Pixels, batch_size: int) -> Logits:
    starts = range(0, len(pixels), batch_size)
    return np.concatenate([runner.logits(pixels[start : start + batch_size]) for start in starts])
