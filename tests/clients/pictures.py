"""Ten pictures of one colour each, and what the toy bundle makes of them. Knows nothing of protocols."""

import numpy as np
from numpy.typing import NDArray

from tests.app.color_bundle import image

LABELS = ("red", "green", "blue: dark")  # a label may hold what a protocol separates by

COLORS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (230, 30, 10),
    (40, 215, 5),
    (5, 60, 205),
    (190, 80, 20),
    (90, 180, 30),
    (15, 100, 170),
    (160, 110, 35),
]
PICTURES = [image(color) for color in COLORS]
EXPECTED = [LABELS[int(np.argmax(color))] for color in COLORS]
BROKEN = b"no picture"


def logits(colors: list[tuple[int, int, int]] = COLORS) -> NDArray[np.float32]:
    """float32 [N, 3]: the mean of each channel, as 0..10."""
    return np.asarray(colors, dtype=np.float32) * 10 / 255


def probabilities(colors: list[tuple[int, int, int]] = COLORS) -> NDArray[np.float32]:
    """float32 [N, 3], in the order of the classes."""
    powers = np.exp(logits(colors))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
