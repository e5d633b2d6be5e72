"""A graph's canary: a picture, the answer to it, and how far that may drift. Knows nothing of its checks."""

import base64
import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from export.parity import GraphRunner
from model.evaluation.evaluate import Logits
from model.preprocess import Pixels, to_square
from model.spec import Canary, ModelSpec, Precision

_TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "int8": 1e-2}
"""Of the logits' range: processors round differently, and wrong answers are far off.

In int8, a value on the edge between two bytes may become the other one. Products that saturate are off by more.
"""
_LEAST_DIFFERENCE = 1e-6


def canary_of(runner: GraphRunner, spec: ModelSpec, pixels: Pixels, precision: Precision) -> Canary:
    """The canary of a picture, uint8 [H, W, C]."""
    square = to_square(pixels, spec.image_size, spec.fit, spec.interpolation)  # the service will crop it once more
    logits = runner.logits(square[np.newaxis])[0]
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG", optimize=True)
    return Canary(
        picture=base64.b64encode(file.getvalue()).decode(),
        logits=tuple(float(logit) for logit in logits),
        atol=max(float(np.ptp(logits)), 1e-3) * _TOLERANCE[precision],
    )


def tells_apart(logits: Logits) -> bool:
    """Whether these answers [m, K] to different pictures differ.

    Those of a network with a new head of zeros do not: any broken graph would pass its canary.
    """
    return bool(np.ptp(logits, axis=0).max() > _LEAST_DIFFERENCE * max(float(np.abs(logits).max()), _LEAST_DIFFERENCE))
