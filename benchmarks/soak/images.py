"""Picture files of every accepted format, small and large, and files that are none; the same ones every time."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cli.bench import samples
from model.spec import ModelSpec

_PHOTOGRAPHS = 6
_SMALL_ONES = 40
_FRAMES = 4


@dataclass(frozen=True)
class Images:
    """Files by kind. `small` ones are in the model's size; `bad` ones are no pictures, or broken."""

    small: tuple[bytes, ...]
    formats: tuple[bytes, ...]
    photographs: tuple[bytes, ...]
    large: tuple[bytes, ...]
    bad: tuple[bytes, ...]


def drawn(spec: ModelSpec, small: tuple[bytes, ...] = ()) -> Images:
    """For a model. `small`: files that it knows, where there are some."""
    side = spec.image_size
    scenes = (samples.scene(side, side, spec.channels, seed) for seed in range(_SMALL_ONES))
    scapes = [samples.scene(500, 375, 3, seed) for seed in range(_PHOTOGRAPHS)]
    photographs = tuple(_saved(scape, "JPEG", quality=90) for scape in scapes)
    return Images(
        small=small or tuple(_saved(scene, "PNG") for scene in scenes),
        formats=tuple(_formats()),
        photographs=photographs,
        large=(
            _saved(scapes[0].resize((4032, 3024)), "JPEG", quality=85),
            _saved(scapes[1].resize((1600, 1200)), "PNG", compress_level=1),
            _saved(scapes[2].resize((1200, 1600)), "WEBP", quality=80),
        ),
        bad=tuple(_bad(photographs[0])),
    )


def _formats() -> Iterator[bytes]:
    """Every accepted format, in the modes and compressions that people have."""
    image = samples.scene(160, 120, 3, 100)
    grey, palette = image.convert("L"), image.quantize(64, Image.Quantize.FASTOCTREE)
    alpha = image.convert("RGBA")
    alpha.putalpha(samples.scene(160, 120, 1, 101))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) << 8)
    for one in (image, grey, image.convert("CMYK")):
        yield _saved(one, "JPEG")
    yield _saved(image, "JPEG", progressive=True)
    yield _saved(image, "JPEG", exif=_turned())
    for one in (image, grey, alpha, palette, grey.convert("1"), grey.convert("LA"), deep):
        yield _saved(one, "PNG")
    yield _saved(image, "WEBP", quality=80)
    yield _saved(alpha, "WEBP", lossless=True)
    yield _saved(image, "WEBP", **_frames(image))
    yield _saved(palette, "GIF")
    yield _saved(palette, "GIF", **_frames(palette))
    for one in (image, grey, palette):
        yield _saved(one, "BMP")
    for one in (image, grey, alpha):
        yield _saved(one, "TIFF")
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg"):
        yield _saved(image, "TIFF", compression=compression)


def _frames(image: Image.Image) -> dict[str, Any]:
    """Options that make it the first of several."""
    return {"save_all": True, "append_images": [image.rotate(90 * turn) for turn in range(1, _FRAMES)]}


def _turned() -> Image.Exif:
    """As a phone writes it that was held upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _bad(photograph: bytes) -> Iterator[bytes]:
    """No pictures, pictures cut short, and pictures that declare too much."""
    whole = _saved(samples.scene(160, 120, 3, 102), "PNG")
    yield b""
    yield b"This is a text, and no picture at all.\n" * 20
    yield b"%PDF-1.7\n" + bytes(500)
    yield bytes(range(256)) * 8
    yield b"\x89PNG\r\n\x1a\n"
    for share in (0.1, 0.5, 0.9):
        yield whole[: int(len(whole) * share)]
        yield photograph[: int(len(photograph) * share)]
    yield whole[:16] + b"\x00\x01\x86\xa0\x00\x01\x86\xa0" + whole[24:]  # 100,000 x 100,000 pixels
    yield whole[:60] + bytes(100) + whole[160:]


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
