"""Folders of pictures, a network to freeze, and a cache of the test's own."""

from pathlib import Path

import numpy as np
import pytest

from model.network import checkpoint
from model.training.options import TrainOptions
from tests.model.toys import random_mixer, toy_config, toy_spec, write_image

LEVELS = {"black": 10, "grey": 120, "white": 240}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mixer-serve" / "embeddings"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A checkpoint of other classes, whose weights are random."""
    folder = tmp_path / "network"
    checkpoint.save(checkpoint.Checkpoint(random_mixer(toy_config()), toy_spec()), folder)
    return folder


def write_classes(folder: Path, count: int, *labels: str, seed: int = 0) -> Path:
    """`count` pictures a class, noise around a level of its own."""
    generator = np.random.default_rng(seed)
    for label in labels:
        for index in range(count):
            noise = generator.integers(-8, 9, (8, 8))
            write_image(folder / label / f"{index:03}.png", (LEVELS[label] + noise).astype(np.uint8))
    return folder


def options(data: Path, network: Path, **changes: object) -> TrainOptions:
    """A --freeze of these."""
    given = {"data": data, "init": str(network), "freeze": True, "autocast": "off", "device": "cpu", **changes}
    given.setdefault("out", data.parent / "out")
    return TrainOptions(**given)  # type: ignore[arg-type]
