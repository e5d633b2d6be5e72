"""PNG files of every colour type, depth, transparency and interlacing."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from tests.kinds.kind import COLORS, GREYS, OPACITIES, SIDE, Integers, Kind, grey, over_white, packed, quadrants

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _RGB: (8, 16), _PALETTE: (1, 2, 4, 8), _GREY_ALPHA: (8, 16), _RGBA: (8, 16)}
_NAMES = {_GREY: "grey", _RGB: "rgb", _PALETTE: "palette", _GREY_ALPHA: "grey+alpha", _RGBA: "rgba"}
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png(samples: Integers, depth: int, color_type: int, chunks: bytes = b"", *, interlaced: bool = False) -> bytes:
    """A PNG of samples [H, W, S]; chunks: whole ones, before the pixels."""
    parts = [samples[top::down, left::across] for top, left, down, across in _PASSES] if interlaced else [samples]
    rows = b"".join(_unfiltered(part, depth) for part in parts)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, color_type, 0, 0, int(interlaced))
    body = chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _unfiltered(samples: Integers, depth: int) -> bytes:
    rows = packed(samples, depth)
    size = len(rows) // max(1, samples.shape[0])
    return b"".join(b"\0" + rows[at : at + size] for at in range(0, len(rows), size))


def every_png() -> Iterator[Kind]:
    """All of them."""
    for interlaced in (False, True):
        end = " interlaced" if interlaced else ""
        for color_type, depths in _DEPTHS.items():
            for depth in depths:
                for name, values, chunks, seen in _versions(color_type, depth):
                    payload = png(quadrants(values), depth, color_type, chunks, interlaced=interlaced)
                    yield Kind(f"PNG {_NAMES[color_type]} {depth} bit{name}{end}", payload, seen, 1)
    yield from _transparent_neighbours()
    for name, chunks in (("gAMA 1.0", chunk(b"gAMA", struct.pack(">I", 100_000))), ("sRGB", chunk(b"sRGB", b"\0"))):
        yield Kind(f"PNG rgb 8 bit {name}", png(quadrants(COLORS), 8, _RGB, chunks), COLORS)


def _versions(
    color_type: int, depth: int
) -> Iterator[tuple[str, tuple[object, ...], bytes, tuple[tuple[int, int, int], ...]]]:
    most = (1 << depth) - 1
    levels = tuple(level * most // 255 for level in (GREYS if depth > 1 else (0, 255, 255, 0)))
    seen_levels = tuple(level * 255 // most for level in levels)
    colors = tuple(tuple(level * most // 255 for level in color) for color in COLORS)
    opacities = tuple(opacity * most // 255 for opacity in OPACITIES)
    if color_type == _GREY:
        yield "", levels, b"", grey(*seen_levels)
        for value in {0, levels[1], most}:
            cleared = tuple(255 if level == value else seen for level, seen in zip(levels, seen_levels, strict=True))
            yield f" tRNS {value}", levels, chunk(b"tRNS", struct.pack(">H", value)), grey(*cleared)
    elif color_type == _RGB:
        yield "", colors, b"", COLORS
        transparent = chunk(b"tRNS", struct.pack(">HHH", *colors[1]))
        yield " tRNS", colors, transparent, (COLORS[0], (255, 255, 255), *COLORS[2:])
    elif color_type == _PALETTE:
        count = min(4, most + 1)
        indices, shown = tuple(at % count for at in range(4)), tuple(COLORS[at % count] for at in range(4))
        palette = chunk(b"PLTE", bytes(level for color in COLORS[:count] for level in color))
        yield "", indices, palette, shown
        for name, alphas in ((" tRNS of one", (255, 0)), (" tRNS", OPACITIES[:count])):
            of_pixels = tuple((*alphas, 255, 255)[at] for at in indices)
            yield name, indices, palette + chunk(b"tRNS", bytes(alphas)), over_white(shown, of_pixels)
    elif color_type == _GREY_ALPHA:
        yield "", tuple(zip(levels, opacities, strict=True)), b"", over_white(grey(*seen_levels))
    else:
        values = tuple((*color, opacity) for color, opacity in zip(colors, opacities, strict=True))
        yield "", values, b"", over_white(COLORS)


def _transparent_neighbours() -> Iterator[Kind]:
    """Of 16 bits, the one value that is transparent is no other with the same upper byte."""
    values = (0x1234, 0x1235, 0x1334, 0x1234)
    seen = grey(255, 0x12, 0x13, 255)
    transparent = struct.pack(">H", 0x1234)
    yield Kind("PNG grey 16 bit tRNS beside", png(quadrants(values), 16, _GREY, chunk(b"tRNS", transparent)), seen, 1)
    colors = np.repeat(quadrants(values), 3, axis=2)
    for interlaced in (False, True):
        payload = png(colors, 16, _RGB, chunk(b"tRNS", transparent * 3), interlaced=interlaced)
        yield Kind(f"PNG rgb 16 bit tRNS beside{' interlaced' if interlaced else ''}", payload, seen, 1)
    deep = chunk(b"tRNS", struct.pack(">H", 0x0101))  # only the low bits of a sample's depth count
    assert SIDE % 8 == 0
    yield Kind("PNG grey 8 bit tRNS of 16", png(quadrants(GREYS), 8, _GREY, deep), grey(*GREYS))
