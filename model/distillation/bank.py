"""Pictures in memory to make views of: one size, with transparency, some with labels. Knows nothing of views.

Large pictures enter as several squares cut at random, so that as much of their detail is seen as of small ones.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.data.ahead import in_order
from model.data.catalog import catalog
from model.data.layout import Split
from model.data.machine import decoding_threads
from model.data.pillow_warnings import ImageWarnings, collected_warnings
from model.data.scan import FORMATS, scan, shown
from model.errors import DataError

_LARGE = 3.0  # sides of the bank's squares in the shorter side of a picture that is cut
_MOST_CUTS = 32
_AHEAD = 4  # pictures, of up to 80 MB each

Square = NDArray[np.uint8]


@dataclass(frozen=True)
class Bank:
    """`pixels`: uint8 [n, 4, side, side], RGBA, stretched to squares. `aspects`: float32 [n], width by height.

    `labels`: int64 [n], -1 for none. `backgrounds`: int64 [m], which pictures have no label and fill their square.
    """

    pixels: Tensor
    labels: Tensor
    aspects: Tensor
    backgrounds: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Bank":
        """The same on another device."""
        return Bank(
            self.pixels.to(device),
            self.labels.to(device),
            self.aspects.to(device),
            self.backgrounds.to(device),
            self.names,
        )


def read_bank(
    data: Path, others: Sequence[Path], side: int, labels: Sequence[str] | None = None, seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    on_note: Callable[[str], None] = lambda line: None, split: Split = "train",
) -> Bank:  # fmt: skip
    """The pictures of a split of DATA with their labels, and all pictures below the folders `others` without.

    `labels` gives the order of the class folders. `on_note` is told of what is left out, and of what Pillow warns.

    Raises: DataError where DATA has no class folders, or not this split.
    """
    rng = np.random.default_rng(seed)
    squares, indices, aspects = [], [], []
    with collected_warnings() as warnings:
        found = catalog(data, labels)
        if split not in found.rows:
            raise DataError(f"{shown(data)} has no {split}/ with class folders; expected it.")
        rows = [*found.rows[split], *((path, -1) for folder in others for path in _pictures_below(folder))]
        with ThreadPoolExecutor(decoding_threads()) as pool:
            images = in_order(pool, partial(_opened, warnings), (path for path, _ in rows), _AHEAD)
            for done, ((path, index), image) in enumerate(zip(rows, images, strict=True), start=1):
                progress(done, len(rows))
                if isinstance(image, DataError):
                    found.skipped.append((path, str(image)))
                    continue
                for square, aspect in _squares(image, side, rng, cut=index < 0):
                    squares.append(square)
                    indices.append(index)
                    aspects.append(aspect)
    for line in (*(f"skipped: {reason}" for _, reason in found.skipped), *found.notes, *warnings.lines()):
        on_note(line)
    if not squares:
        raise DataError(f"{data} has no readable picture; expected some in class folders.")
    pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous()
    kinds = torch.tensor(indices)
    filled = (pixels[:, 3] > 250).flatten(1).all(1)
    return Bank(pixels, kinds, torch.tensor(aspects), ((kinds < 0) & filled).nonzero()[:, 0], found.labels)


def _pictures_below(folder: Path) -> list[Path]:
    return [file.path for file in scan(folder).images if not file.is_link]


def _opened(warnings: ImageWarnings, path: Path) -> Image.Image | DataError:
    """A file as RGBA; what is wrong with it where it is no readable picture."""
    try:
        with warnings.reading(path), Image.open(path, formats=FORMATS) as opened:
            return opened.convert("RGBA")
    except Exception as error:  # noqa: BLE001 -- broken files raise almost anything inside a decoder
        return DataError(f"{shown(path)} is not a readable picture: {shown(str(error))}")


def _squares(image: Image.Image, side: int, rng: np.random.Generator, *, cut: bool) -> Iterator[tuple[Square, float]]:
    """A picture as one square, or a large one as several; nothing of a tiny one."""
    shorter = min(image.size)
    if shorter < 8:
        return
    if not cut or shorter < _LARGE * side:
        yield np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)), image.width / image.height
        return
    count = min(_MOST_CUTS, round((image.width / side) * (image.height / side)))
    premultiplied = image.convert("RGBa")  # as Pillow resizes it: once, and not the whole of it for each square
    for _ in range(count):
        extent = side * (shorter / side) ** rng.random()
        left, top = rng.random() * (image.width - extent), rng.random() * (image.height - extent)
        box = (left, top, left + extent, top + extent)
        square = premultiplied.resize((side, side), Image.Resampling.BILINEAR, box)
        yield np.asarray(square.convert("RGBA")), 1.0
