"""A few pictures of two kinds, others without a label, and a teacher that needs no weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from model.distillation.bank import Bank, read_bank
from model.distillation.lessons import LessonWriter
from model.distillation.teacher import FEATURES, LATE_CHANNELS, MIDDLE_CHANNELS, SIDE, Maps
from model.distillation.views import Variation

LABELS = ("dark", "light")
PER_FILE = 64


class ColorTeacher:
    """Sees colors: its maps are fixed mixtures of the mean colors of each place."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        sizes = (MIDDLE_CHANNELS, LATE_CHANNELS, FEATURES)
        self._mixtures = [torch.randn(3, channels, generator=generator) for channels in sizes]
        self.seen = 0

    def see(self, pixels: Tensor) -> Maps:
        self.seen += len(pixels)
        assert pixels.shape[1:] == (3, SIDE, SIDE)
        colors = [functional.adaptive_avg_pool2d(pixels.float() / 255, side).permute(0, 2, 3, 1) for side in (12, 6, 1)]
        maps = [color @ mixture for color, mixture in zip(colors, self._mixtures, strict=True)]
        return Maps(maps[0], maps[1], maps[2].flatten(1))


def write_pictures(folder: Path, split: str, count: int) -> None:
    """Squares around grey 60 and around grey 200, in class folders."""
    rng = np.random.default_rng(len(split))
    for label, level in zip(LABELS, (60, 200), strict=True):
        (folder / split / label).mkdir(parents=True)
        for index in range(count):
            pixels = rng.normal(level, 15, (40, 30 + index % 3, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / split / label / f"{index:02}.png")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distillation") / "data"
    write_pictures(folder, "train", 12)
    write_pictures(folder, "val", 8)
    return folder


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cut-out that is half transparent, one large picture, one file that is no picture."""
    folder = tmp_path_factory.mktemp("others")
    ramp = np.linspace(0, 255, 50 * 50 * 4).reshape(50, 50, 4).astype(np.uint8)
    Image.fromarray(ramp).save(folder / "cut-out.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (700, 600, 3), dtype=np.uint8)).save(folder / "large.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="session")
def bank(data: Path, others: Path) -> Bank:
    return read_bank(data, [others], SIDE)


@pytest.fixture(scope="session")
def lessons_folder(bank: Bank, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of lessons of 32 pixels."""
    folder = tmp_path_factory.mktemp("lessons")
    LessonWriter(bank, ColorTeacher(), 32, 0.7, Variation(), per_file=PER_FILE).write(folder, 4 * PER_FILE)
    return folder
