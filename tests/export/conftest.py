"""A toy checkpoint, and pictures to prove it with."""

import numpy as np
import pytest
from toy_checkpoints import toy_checkpoint

from model.checkpoint import Checkpoint
from model.preprocess import Pixels


@pytest.fixture
def pictures() -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (40, 12, 12, 3), dtype=np.uint8)


@pytest.fixture
def checkpoint(pictures: Pixels) -> Checkpoint:
    return toy_checkpoint(pictures=pictures)
