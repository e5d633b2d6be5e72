"""The picture files that are decoded, and for which classifier. Knows nothing of libraries or clocks."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from benchmarks.serving.cells import Kind
from benchmarks.serving.environments import ROOT
from benchmarks.serving.images import images
from model.spec import Fit, ModelSpec, Source

SMALL = Kind("28x28 PNG", "fashion-mnist", 28, 28, "PNG", source="examples")
DRAWN = (
    Kind("500x375 JPEG", "224", 500, 375, "JPEG", pool=8),
    Kind("1600x1200 JPEG", "224", 1600, 1200, "JPEG", pool=4),
    Kind("4032x3024 JPEG", "224", 4032, 3024, "JPEG", pool=2),
    Kind("500x375 PNG", "224", 500, 375, "PNG", pool=8),
    Kind("4032x3024 PNG", "224", 4032, 3024, "PNG", pool=1),
)
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class Workload:
    """Files of one kind for one spec. bundle: the name of the classifier that judges them, if one does."""

    name: str
    kind: str  # "JPEG" or "PNG"
    spec: ModelSpec
    bundle: str | None
    files: Callable[[], Sequence[bytes]]


def timed(small: ModelSpec, clothes: ModelSpec, photographs: Sequence[Path], cache: Path) -> list[Workload]:
    """What speed is measured with."""
    drawn = [Workload(one.name, one.file, spec_of_224(), None, partial(images, one, 3, cache)) for one in DRAWN]
    return [
        Workload(SMALL.name, "PNG", small, "fashion-mnist", partial(images, SMALL, small.channels, cache)),
        *drawn,
        Workload("photographs, JPEG", "JPEG", clothes, "clothes", partial(read, photographs)),
    ]


def judged(small: ModelSpec, clothes: ModelSpec, photographs: Sequence[Path], cache: Path) -> list[Workload]:
    """What answers are compared with: photographs as they are, as PNG, and enlarged."""
    made = [
        Workload(name, kind, clothes, "clothes", partial(remade, photographs, kind, side))
        for name, kind, side in (
            ("photographs, PNG", "PNG", None),
            ("photographs, JPEG of 1600 pixels", "JPEG", 1600),
            ("photographs, JPEG of 4032 pixels", "JPEG", 4032),
        )
    ]
    own = [one for one in timed(small, clothes, photographs, cache) if one.bundle is not None]
    return [*own, *made]


def spec_of_224() -> ModelSpec:
    """What S/16 asks for: the central 7/8 at 224 x 224, bicubic."""
    fit = Fit(mode="crop", crop_percentage=0.875)
    return ModelSpec(
        name="224", image_size=224, patch_size=16, channels=3, num_classes=1, labels=("any",), fit=fit,
        source=Source(origin="no weights"),
    )  # fmt: skip


def photographs(folder: Path | None, most: int) -> list[Path]:
    """JPEGs below a folder, evenly chosen where there are more than `most`; by default those of examples/."""
    found = sorted((folder or ROOT / "examples").rglob("*.jpg"))
    return [found[index * len(found) // most] for index in range(most)] if len(found) > most else found


def read(paths: Sequence[Path]) -> list[bytes]:
    """Whole files."""
    return [path.read_bytes() for path in paths]


def remade(paths: Sequence[Path], kind: str, side: int | None) -> list[bytes]:
    """The photographs as files of another kind; side: pixels of the longer one, where it is another."""
    files = []
    for path in paths:
        with Image.open(path) as image:
            whole = image.convert("RGB")
        if side is not None:
            scale = side / max(whole.size)
            size = (round(whole.width * scale), round(whole.height * scale))
            whole = whole.resize(size, Image.Resampling.BICUBIC)
        file = io.BytesIO()
        whole.save(file, kind, quality=_JPEG_QUALITY)
        files.append(file.getvalue())
    return files
