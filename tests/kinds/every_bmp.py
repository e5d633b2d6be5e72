"""BMP files of every depth, header, mask, direction and run-length coding."""

import struct
from collections.abc import Iterator, Sequence

from tests.kinds.kind import COLORS, OPACITIES, SIDE, Color, Integers, Kind, over_white, packed, quadrants

_CORE, _INFO, _V2, _V3, _OS2, _V4, _V5 = 12, 40, 52, 56, 64, 108, 124
_PLAIN, _RLE8, _RLE4, _BITFIELDS = 0, 1, 2, 3
_PALETTE = ((0, 0, 0), *COLORS, (255, 255, 255))
_REFUSED = {
    (0xF00, 0xF0, 0xF, 0xF000),
    (0x7C00, 0x3E0, 0x1F, 0x8000),
    (0x3FF00000, 0xFFC00, 0x3FF),
    (0xFF, 0xFF00, 0xFF0000),
}

Masks = Sequence[int]


def bmp(
    rows: bytes,
    bits: int,
    header_bytes: int = _INFO,
    *,
    coding: int = _PLAIN,
    masks: Masks = (),
    top_down: bool = False,
    palette: Sequence[Color] = (),
) -> bytes:
    """A BMP of the scene's size; rows in the order of the file. masks: of red, green, blue and perhaps alpha."""
    if header_bytes == _CORE:
        header = struct.pack("<IHHHH", _CORE, SIDE, SIDE, 1, bits)
    else:
        height = -SIDE if top_down else SIDE
        header = struct.pack(
            "<IiiHHIIiiII", header_bytes, SIDE, height, 1, bits, coding, len(rows), 2835, 2835, len(palette), 0
        )
        header = (header + struct.pack(f"<{len(masks)}I", *masks)).ljust(header_bytes, b"\0")
    padding = b"" if header_bytes == _CORE else b"\0"
    table = b"".join(bytes((blue, green, red)) + padding for red, green, blue in palette)
    at = 14 + len(header) + len(table)
    return b"BM" + struct.pack("<IHHI", at + len(rows), 0, 0, at) + header + table + rows


def _rows(values: Integers, bits: int, *, top_down: bool = False) -> bytes:
    """Values [H, W, 1] as rows of a multiple of four bytes, the lowest row first unless top_down."""
    ordered = values if top_down else values[::-1]
    if bits == 24:
        parts = [b"".join(int(value).to_bytes(3, "little") for value in row.ravel()) for row in ordered]
    else:
        whole = packed(ordered, bits, big_endian=False)
        size = len(whole) // SIDE
        parts = [whole[at : at + size] for at in range(0, len(whole), size)]
    return b"".join(part.ljust(-(-len(part) // 4) * 4, b"\0") for part in parts)


def _masked(colors: Sequence[Sequence[int]], masks: Masks) -> Integers:
    """[H, W, 1]: each colour, and its opacity if it has one, under the masks."""
    return quadrants(
        tuple(sum(_placed(level, mask) for level, mask in zip(color, masks, strict=False)) for color in colors)
    )


def _placed(level: int, mask: int) -> int:
    if not mask:
        return 0
    lowest = mask & -mask
    return round(level * (mask // lowest) / 255) * lowest


def every_bmp() -> Iterator[Kind]:
    """All of them."""
    yield from _with_palette()
    yield from _runs()
    for top_down in (False, True):
        end = " top-down" if top_down else ""
        for bits, masks in (
            (24, (0xFF0000, 0xFF00, 0xFF)),
            (32, (0xFF0000, 0xFF00, 0xFF)),
            (16, (0x7C00, 0x3E0, 0x1F)),
        ):
            rows = _rows(_masked(COLORS, masks), bits, top_down=top_down)
            for header in (_INFO, _V4, _V5) if top_down or bits != 24 else (_CORE, _INFO, _V2, _V3, _OS2, _V4, _V5):
                yield Kind(
                    f"BMP {bits} bit header {header}{end}",
                    bmp(rows, bits, header, top_down=top_down),
                    COLORS,
                    6 if bits == 16 else 0,
                )
    yield from _bitfields()


def _with_palette() -> Iterator[Kind]:
    for bits in (1, 2, 4, 8):
        count = min(1 << bits, len(_PALETTE))
        indices = tuple(at % count for at in (1, 2, 3, 4))
        seen = tuple(_PALETTE[at] for at in indices)
        for header in (_CORE, _INFO, _V4, _V5):
            table = [*_PALETTE, *[(0, 0, 0)] * 256][: 1 << bits] if header == _CORE else _PALETTE[:count]
            payload = bmp(_rows(quadrants(indices), bits), bits, header, palette=table)
            yield Kind(f"BMP palette {bits} bit header {header}", payload, "The BMP has 2 bits" if bits == 2 else seen)


def _runs() -> Iterator[Kind]:
    half = SIDE // 2
    for bits, coding in ((8, _RLE8), (4, _RLE4)):

        def run(index: int, bits: int = bits) -> bytes:
            return bytes((half, index if bits == 8 else index * 17))

        rows = (run(3) + run(4) + b"\0\0") * half + (run(1) + run(2) + b"\0\0") * half + b"\0\1"
        yield Kind(f"BMP RLE{bits}", bmp(rows, bits, coding=coding, palette=_PALETTE), COLORS)


def _bitfields() -> Iterator[Kind]:
    colors = tuple((*color, opacity) for color, opacity in zip(COLORS, OPACITIES, strict=True))
    for bits, masks in (
        (16, (0xF800, 0x7E0, 0x1F)),
        (16, (0x7C00, 0x3E0, 0x1F)),
        (32, (0xFF0000, 0xFF00, 0xFF)),
        (32, (0xFF000000, 0xFF0000, 0xFF00)),
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
        (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
        (16, (0xF00, 0xF0, 0xF, 0xF000)),
        (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF)),
        (32, (0xFF, 0xFF00, 0xFF0000)),
    ):
        for header in (_V4, _V5) if len(masks) == 4 else (_INFO, _V2, _V3, _V4, _V5):
            name = f"BMP {bits} bit masks {' '.join(f'{mask:x}' for mask in masks)} header {header}"
            shown: tuple[Color, ...] | str = COLORS if len(masks) == 3 else over_white(COLORS)
            if masks in _REFUSED:
                shown = f"The BMP has {bits} bits a pixel, with masks {masks[0]:x}, {masks[1]:x}, {masks[2]:x}"
            values = _rows(_masked(colors, masks), bits)
            rows = struct.pack("<III", *masks[:3]) + values if header == _INFO else values
            payload = bmp(rows, bits, header, coding=_BITFIELDS, masks=() if header == _INFO else masks)
            if header == _INFO:  # its masks are behind it, not a part of the rows
                payload = payload[:10] + struct.pack("<I", 14 + _INFO + 12) + payload[14:]
            yield Kind(name, payload, shown, 6 if bits == 16 else 1)
    for masks in ((0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF, 0xFF00, 0xFF0000, 0xFF000000)):
        for alpha, seen in ((0, COLORS), (1, over_white(COLORS, (1,) * 4))):
            rows = _rows(_masked([(*color, alpha) for color in COLORS], masks), 32)
            payload = bmp(rows, 32, _V5, coding=_BITFIELDS, masks=masks)
            yield Kind(f"BMP 32 bit alpha {alpha} everywhere {masks[0]:x}", payload, seen, 1)
