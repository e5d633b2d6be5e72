"""JPEG, GIF and WebP files of every colour space, subsampling, transparency and place of a frame."""

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.kinds.kind import COLORS, GREYS, OPACITIES, SIDE, Color, Kind, grey, over_white, quadrants

_WHITE: Color = (255, 255, 255)
_BLOCK = 32  # pixels to a side of lossy pictures: their quadrants are whole blocks at every subsampling
_JPEG_TOLERANCE, _WEBP_TOLERANCE = 4, 8
_FEW_BITS = 9  # of a GIF's codes, whose table is cleared before it needs ten


def scene(colors: tuple[Any, ...], mode: str, side: int = _BLOCK) -> Image.Image:
    """The quadrants of those colours, as they are stored in that mode."""
    values = quadrants(colors, side).astype(np.uint8)
    size = (side, side)
    return Image.frombytes(mode, size, values.tobytes())


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def every_other() -> Iterator[Kind]:
    """All of them."""
    yield from _jpegs()
    yield from _gifs()
    yield from _webps()
    yield from _tiffs()


def _jpegs() -> Iterator[Kind]:
    rgb, levels = scene(COLORS, "RGB"), scene(GREYS, "L")
    for name, options in (
        ("", {}),
        (" progressive", {"progressive": True}),
        (" restarts", {"restart_marker_blocks": 1}),
    ):
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            payload = saved(rgb, "JPEG", quality=100, subsampling=subsampling, **options)
            yield Kind(f"JPEG YCbCr {subsampling}{name}", payload, COLORS, _JPEG_TOLERANCE)
        yield Kind(f"JPEG grey{name}", saved(levels, "JPEG", quality=100, **options), grey(*GREYS), _JPEG_TOLERANCE)
        yield Kind(
            f"JPEG RGB{name}", saved(rgb, "JPEG", quality=100, keep_rgb=True, **options), COLORS, _JPEG_TOLERANCE
        )
        yield from _inks(name, options)


def _inks(name: str, options: dict[str, Any]) -> Iterator[Kind]:
    inks = tuple((*(255 - level for level in color), 0) for color in COLORS)
    adobe = saved(scene(inks, "CMYK"), "JPEG", quality=100, **options)  # inverted, as Photoshop writes them
    yield Kind(f"JPEG CMYK inverted, Adobe{name}", adobe, COLORS, _JPEG_TOLERANCE)
    at = adobe.index(b"\xff\xee")
    length = int.from_bytes(adobe[at + 2 : at + 4])
    yield Kind(f"JPEG CMYK inverted, not Adobe{name}", adobe[:at] + adobe[at + 2 + length :], COLORS, _JPEG_TOLERANCE)
    stored = tuple((*_ycc(*(255 - level for level in color)), 255) for color in COLORS)
    given = scene(tuple(tuple(255 - value for value in values) for values in stored), "CMYK")
    ycck = saved(given, "JPEG", quality=100, **options)
    transform = at + 4 + 11
    yield Kind(
        f"JPEG YCCK inverted, Adobe{name}", ycck[:transform] + b"\2" + ycck[transform + 1 :], COLORS, _JPEG_TOLERANCE
    )


def _ycc(red: int, green: int, blue: int) -> tuple[int, int, int]:
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return round(luma), round(128 + (blue - luma) / 1.772), min(255, round(128 + (red - luma) / 1.402))


def _gifs() -> Iterator[Kind]:
    table = bytes(level for color in (*COLORS, *[(0, 0, 0)] * 4) for level in color)
    other = bytes(255 - level for level in table)
    places = quadrants((0, 1, 2, 3))[:, :, 0]
    for interlaced in (False, True):
        end = " interlaced" if interlaced else ""
        yield Kind(f"GIF{end}", gif(places, table, interlaced=interlaced), COLORS)
        yield Kind(f"GIF local palette{end}", gif(places, other, local=table, interlaced=interlaced), COLORS)
        cleared = (COLORS[0], _WHITE, *COLORS[2:])
        yield Kind(f"GIF transparent{end}", gif(places, table, transparent=1, interlaced=interlaced), cleared)
    lower_right = places[SIDE // 2 :, SIDE // 2 :]
    yield Kind(
        "GIF part of its screen, transparent",
        gif(lower_right, table, transparent=7, at=SIDE // 2),
        (*[_WHITE] * 3, COLORS[3]),
    )


def gif(
    indices: Any,
    table: bytes,
    *,
    local: bytes = b"",
    transparent: int | None = None,
    interlaced: bool = False,
    at: int = 0,
) -> bytes:
    """A GIF of a screen of the scene's size, with a frame of those indices [H, W] there. Tables of 8 colours."""
    height, width = indices.shape
    control = b"" if transparent is None else b"\x21\xf9\x04" + bytes((1, 0, 0, transparent)) + b"\0"
    flags = (0x82 if local else 0) | (0x40 if interlaced else 0)
    order = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]
    rows = indices[order] if interlaced else indices
    screen = struct.pack("<HHBBB", SIDE, SIDE, 0xF2, 0, 0) + table
    frame = b"," + struct.pack("<HHHHB", at, at, width, height, flags) + local
    return b"GIF89a" + screen + control + frame + b"\x08" + _blocks(_codes(rows.ravel().tolist())) + b"\0;"


def _codes(indices: list[int]) -> bytes:
    clear, end = 256, 257
    codes = [code for at in range(0, len(indices), 250) for code in (clear, *indices[at : at + 250])]
    number = sum(code << (_FEW_BITS * place) for place, code in enumerate([*codes, end]))
    return number.to_bytes(-(-_FEW_BITS * (len(codes) + 1) // 8), "little")


def _blocks(content: bytes) -> bytes:
    return b"".join(
        bytes((len(part),)) + part for part in (content[at : at + 255] for at in range(0, len(content), 255))
    )


def _webps() -> Iterator[Kind]:
    rgb, rgba = scene(COLORS, "RGB"), scene(tuple((*c, o) for c, o in zip(COLORS, OPACITIES, strict=True)), "RGBA")
    for name, options in (("lossless", {"lossless": True, "exact": True}), ("lossy", {"quality": 100})):
        tolerance = 1 if name == "lossless" else _WEBP_TOLERANCE
        yield Kind(f"WebP {name}", saved(rgb, "WEBP", **options), COLORS, tolerance)
        yield Kind(f"WebP {name} alpha", saved(rgba, "WEBP", **options), over_white(COLORS), tolerance)
        animated = saved(rgba, "WEBP", save_all=True, append_images=[rgba.rotate(90)], **options)
        yield Kind(f"WebP {name} alpha animated", animated, over_white(COLORS), tolerance)


def _tiffs() -> Iterator[Kind]:
    """Those compressed as only an encoder can."""
    bits = scene((0, 255, 255, 0), "L").convert("1")
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield Kind(f"TIFF {compression}", saved(bits, "TIFF", compression=compression), grey(0, 255, 255, 0))
    for name, image, seen in (("grey", scene(GREYS, "L"), grey(*GREYS)), ("rgb", scene(COLORS, "RGB"), COLORS)):
        payload = saved(image, "TIFF", compression="jpeg", quality=100)
        yield Kind(f"TIFF {name} JPEG", payload, seen, _JPEG_TOLERANCE)
    yield Kind(
        "TIFF ycbcr JPEG",
        saved(scene(COLORS, "RGB").convert("YCbCr"), "TIFF", compression="jpeg"),
        COLORS,
        _JPEG_TOLERANCE,
    )
