"""Stored lessons: views of pictures, and what the teacher sees in each, in files of 2,048. Knows nothing of pupils.

No teacher runs while a pupil learns, and each lesson may be learned many times.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.data.layout import read_labels
from model.distillation.bank import Bank
from model.distillation.codes import Codes
from model.distillation.teacher import SIDE, Maps
from model.distillation.views import Variation, ViewMaker
from model.errors import TrainingError
from model.network.checkpoint_folder import write_atomically, write_failure

CODES = "codes.npz"
LABELS = "labels.txt"
PER_FILE = 2048
_BATCH, _TO_FIT_CODES = 32, 1280
_SEEDS = 1_000_003  # between those of two runs: each file has its own
_MIDDLE_CODES, _LATE_CODES = 64, 128

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Lessons:
    """images: uint8 [N, side, side, 3]. middle: int8 [N, 12, 12, 64], late: int8 [N, 6, 6, 128] (Codes).

    features: float16 [N, 1280]. labels, other_labels: int16 [N], -1 for none. shares: float32 [N], of the first label.
    """

    images: Tensor
    middle: Tensor
    late: Tensor
    features: Tensor
    labels: Tensor
    other_labels: Tensor
    shares: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class Teacher(Protocol):
    """What turns views uint8 [N, 3, 192, 192] into Maps."""

    def see(self, pixels: Tensor) -> Maps:
        """Run once over a batch."""
        ...


class LessonWriter:
    """Writes lessons of `image_size` pixels. `labelled`: the share of views whose picture has a label."""

    def __init__(
        self,
        bank: Bank,
        teacher: Teacher,
        image_size: int,
        labelled: float,
        variation: Variation,
        per_file: int = PER_FILE,
        seed: int = 0,
    ) -> None:
        self._bank, self._teacher, self._image_size = bank, teacher, image_size
        self._with, self._without = ((bank.labels >= 0).nonzero()[:, 0], (bank.labels < 0).nonzero()[:, 0])
        self._labelled = labelled if len(self._without) else 1.0
        self._variation, self._per_file = variation, per_file
        self._seed = seed * _SEEDS

    def write(self, out: Path, count: int, progress: Progress = lambda done, total: None) -> None:
        """Fill `out` until it holds `count` lessons; files that are there stay, so that a killed run goes on."""
        out.mkdir(parents=True, exist_ok=True)
        self._write_labels(out / LABELS)
        if not (out / CODES).exists():
            self._write_codes(out / CODES)
        middle, late = read_codes(out)
        number = -(-count // self._per_file)
        for index in range(number):
            path = out / _file_name(index)
            if not path.exists():
                content = self._lessons(self._seed + index + 1, middle, late)
                _write(path, content)
            progress((index + 1) * self._per_file, number * self._per_file)

    def _lessons(self, seed: int, middle: Codes, late: Codes) -> dict[str, Tensor]:
        maker = ViewMaker(self._bank, SIDE, seed, self._variation)
        generator = torch.Generator().manual_seed(seed)
        parts: dict[str, list[Tensor]] = {field.name: [] for field in fields(Lessons)}
        for _ in range(0, self._per_file, _BATCH):
            views = maker.take(self._rows(generator))
            maps = self._teacher.see(views.pixels)
            made = {
                "images": resized(views.pixels, self._image_size).permute(0, 2, 3, 1),
                "middle": middle.encode(maps.middle.cpu()),
                "late": late.encode(maps.late.cpu()),
                "features": maps.features.half(),
                "labels": views.labels.short(),
                "other_labels": views.other_labels.short(),
                "shares": views.shares,
            }
            for name, tensor in made.items():
                parts[name].append(tensor.cpu())
        return {name: torch.cat(tensors) for name, tensors in parts.items()}

    def _rows(self, generator: torch.Generator) -> Tensor:
        """Which pictures a batch shows: those with a label first, so that neighbours are mostly of one kind."""
        known = int(torch.binomial(torch.tensor(float(_BATCH)), torch.tensor(self._labelled), generator=generator))
        picked = (
            rows[torch.randint(max(1, len(rows)), (count,), generator=generator)] if count else rows[:0]
            for rows, count in ((self._with, known), (self._without, _BATCH - known))
        )
        return torch.cat(list(picked)).to(self._bank.labels.device)

    def _write_labels(self, path: Path) -> None:
        """Raises TrainingError where the lessons that are there have other classes."""
        if not path.exists():
            path.write_text("".join(f"{name}\n" for name in self._bank.names), encoding="utf-8")
        elif (there := read_labels(path)) != self._bank.names:
            raise TrainingError(f"{path} has the labels {', '.join(there)}; these are {', '.join(self._bank.names)}.")

    def _write_codes(self, path: Path) -> None:
        maker = ViewMaker(self._bank, SIDE, self._seed, self._variation)
        generator = torch.Generator().manual_seed(self._seed)
        seen = [self._teacher.see(maker.take(self._rows(generator)).pixels) for _ in range(0, _TO_FIT_CODES, _BATCH)]
        content: dict[str, Tensor] = {}
        for name, count in (("middle", _MIDDLE_CODES), ("late", _LATE_CODES)):
            codes = Codes.fitted(torch.cat([getattr(maps, name) for maps in seen]).cpu(), count)
            content |= {f"{name}.{field.name}": getattr(codes, field.name) for field in fields(Codes)}
        _write(path, content)


def are_all_there(folder: Path, count: int, labels: Sequence[str], per_file: int = PER_FILE) -> bool:
    """Whether a folder holds `count` lessons on these labels by now."""
    if not ((folder / CODES).exists() and (folder / LABELS).exists()):
        return False
    files = (folder / _file_name(index) for index in range(-(-count // per_file)))
    return tuple(read_labels(folder / LABELS)) == tuple(labels) and all(map(Path.is_file, files))


def _file_name(index: int) -> str:
    return f"{index:05}.npz"


def resized(pixels: Tensor, side: int) -> Tensor:
    """uint8 [N, C, H, W] at another size, averaged where it is smaller."""
    if pixels.shape[-1] == side:
        return pixels
    sized = functional.interpolate(pixels.float(), size=(side, side), mode="bilinear", antialias=True)
    return sized.round().clamp(0, 255).to(torch.uint8)


def read_codes(folder: Path) -> tuple[Codes, Codes]:
    """The codes of the middle and the late maps. Raises TrainingError where the folder has none."""
    try:
        with np.load(folder / CODES) as stored:
            content = {name: torch.from_numpy(stored[name]) for name in stored.files}
        middle, late = (Codes(*(content[f"{name}.{f.name}"] for f in fields(Codes))) for name in ("middle", "late"))
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise TrainingError(
            f"{folder} holds no lessons: {error}; expected a folder that mixer lessons has filled."
        ) from error
    return middle, late


def read_lessons(folder: Path) -> Lessons:
    """All lessons of a folder, in memory: 66 kB each at 128 pixels. Raises TrainingError where there are none."""
    paths = sorted(folder.glob("[0-9]*.npz"))
    if not paths:
        raise TrainingError(f"{folder} holds no lessons; expected a folder that mixer lessons has filled.")
    parts: list[dict[str, Tensor]] = []
    for path in paths:
        try:
            with np.load(path) as stored:
                parts.append({field.name: torch.from_numpy(stored[field.name]) for field in fields(Lessons)})
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise TrainingError(
                f"{path} is no file of lessons: {error}; delete it, and mixer lessons makes it again."
            ) from error
    return Lessons(**{field.name: _joined(parts, field.name) for field in fields(Lessons)})


def _joined(parts: list[dict[str, Tensor]], name: str) -> Tensor:
    """One tensor of all parts; each part is let go, so that no lesson is in memory twice."""
    lengths = [len(part[name]) for part in parts]
    joined = torch.empty((sum(lengths), *parts[0][name].shape[1:]), dtype=parts[0][name].dtype)
    for place, part in zip(torch.split(joined, lengths), parts, strict=True):
        place.copy_(part.pop(name))
    return joined


def _write(path: Path, content: Mapping[str, Tensor]) -> None:
    try:
        write_atomically(path, lambda new: _save(new, content))
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {write_failure(error, path.parent)}") from error


def _save(path: Path, content: Mapping[str, Tensor]) -> None:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in content.items()}
    with path.open("wb") as file:
        np.savez(file, **arrays)
