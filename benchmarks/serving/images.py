"""The picture files that are sent: drawn, or varied from those in examples/; the same ones every time."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.serving.cells import Kind
from benchmarks.serving.environments import ROOT
from cli.bench import samples

_JPEG_QUALITY = 90
_DRAWINGS = ROOT / "examples" / "fashion-mnist"
_PHOTOGRAPHS = ROOT / "examples"
_SHIFTS = ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))


def images(kind: Kind, channels: int, cache: Path) -> list[bytes]:
    """The files of a kind, drawn once and kept in `cache`: large photographs take their time."""
    folder = cache / f"{kind.source}-{kind.width}x{kind.height}x{channels}-{_recipe()}"
    folder.mkdir(parents=True, exist_ok=True)
    draw = _example if kind.source == "examples" else _scene
    return [_kept(folder / f"{seed}.{kind.file.lower()}", kind, channels, seed, draw) for seed in range(kind.pool)]


def _kept(path: Path, kind: Kind, channels: int, seed: int, draw: Callable[[Kind, int, int], Image.Image]) -> bytes:
    if not path.is_file():
        file = io.BytesIO()
        draw(kind, channels, seed).save(file, kind.file, quality=_JPEG_QUALITY)
        part = path.with_suffix(".part")
        part.write_bytes(file.getvalue())
        part.replace(path)
    return path.read_bytes()


def _scene(kind: Kind, channels: int, seed: int) -> Image.Image:
    return samples.scene(kind.width, kind.height, channels, seed)


def _example(kind: Kind, channels: int, seed: int) -> Image.Image:
    """One of the examples, moved by a pixel and a little darker or lighter."""
    files = sorted(_DRAWINGS.glob("*.png") if channels == 1 else _PHOTOGRAPHS.glob("*.jpg"))
    with Image.open(files[seed % len(files)]) as image:
        resized = image.convert("L" if channels == 1 else "RGB").resize((kind.width, kind.height))
        pixels = np.asarray(resized, dtype=np.float64)
    variation = seed // len(files)
    moved = np.roll(pixels, _SHIFTS[variation % len(_SHIFTS)], axis=(0, 1))
    return Image.fromarray((moved * (1 - 0.03 * variation)).round().clip(0, 255).astype(np.uint8))


def _recipe() -> str:
    """Changes when this file or the scenes do."""
    sources = (Path(__file__), Path(samples.__file__))
    return f"{zlib.crc32(b''.join(path.read_bytes() for path in sources)):08x}"
