"""Logits of a plain session, and how far two sets of them are apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.on_gpu.patches import Patches

Logits = NDArray[np.float32]  # of a batch: [n, K]


def plain_logits(session: Any, patches: Sequence[Patches]) -> Logits:
    (logits,) = session.run(["logits"], {"patches": np.stack(patches)})
    return np.asarray(logits)


def difference(found: Logits, expected: Logits) -> float:
    """The largest, relative to the range of the expected logits; NaN where anything is not a number."""
    return float(np.abs(found - expected).max() / (float(np.ptp(expected)) or 1.0))


def agreement(found: Logits, expected: Logits) -> float:
    return float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
