"""TIFF files of every photometric kind, depth, sample format, layout and compression."""

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kinds.kind import COLORS, GREYS, OPACITIES, SIDE, Integers, Kind, grey, over_white, packed, quadrants

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
_COMPRESSIONS = {"none": NONE, "lzw": LZW, "deflate": DEFLATE, "packbits": PACKBITS}
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_LZW_CLEAR, _LZW_END, _LZW_RUN = 256, 257, 250

# Refused by their names: what Pillow has no mode for, and few programs write.
_REFUSED = re.compile(
    r"white is 0 (12|32) bit|white is 0 16 bit.* MM|BigTIFF.* >"
    r"|(12|32) bit.* fill 2|grey (12|32) bit.* MM|16 bit.* fill 2 MM"
    r"|white is 0 (8 bit|16 bit( deflate)?) fill 2|palette [124] bit fill 2"
    r"|grey 16 bit extra|rgb (1|2|4|12|32) bit|float (16|64)|rgb float"
    r"|(grey|rgb) 8 bit extra [01] planar|grey 8 bit extra 2 planar|rgb 16 bit extra . planar|cmyk 16 bit planar"
)

Samples = NDArray[Any]


def tiff(
    samples: Samples,
    bits: int,
    photometric: int,
    *,
    order: str = "<",
    compression: int = NONE,
    predictor: int = 1,
    fill_order: int = 1,
    planar: bool = False,
    tiled: bool = False,
    big: bool = False,
    rows: int = SIDE,
    tags: Mapping[int, tuple[int, ...]] = {},
) -> bytes:
    """A TIFF of samples [H, W, S]: integers of so many bits, or floats."""
    height, width, channels = samples.shape
    planes = [samples[:, :, at : at + 1] for at in range(channels)] if planar else [samples]
    strips = [
        _strip(plane[at : at + rows], bits, order, predictor) for plane in planes for at in range(0, height, rows)
    ]
    stored = [_compressed(strip, compression) for strip in strips]
    if fill_order == 2:
        stored = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in strip) for strip in stored]
    entries: dict[int, tuple[int, ...]] = {256: (width,), 257: (height,), 258: (bits,) * channels, 259: (compression,)}
    entries |= {262: (photometric,), 266: (fill_order,), 277: (channels,), 284: (2 if planar else 1,)}
    if tiled:
        entries |= {322: (width,), 323: (rows,)}
    if predictor != 1:
        entries |= {317: (predictor,)}
    if samples.dtype.kind == "f":
        entries |= {339: (_FLOAT,) * channels}
    entries |= tags
    places = (324, 325) if tiled else (273, 279)
    return _file(entries if tiled else entries | {278: (rows,)}, places, stored, order, big)


def _strip(samples: Samples, bits: int, order: str, predictor: int) -> bytes:
    if samples.dtype.kind == "f":
        values = samples.astype(f"{order}f{bits // 8}")
        return _float_predicted(values) if predictor == 3 else values.tobytes()
    if predictor == 2:
        samples = np.diff(samples, axis=1, prepend=0) & ((1 << bits) - 1)
    return packed(samples, bits, big_endian=order == ">")


def _float_predicted(values: Samples) -> bytes:
    """Floating-point prediction: the bytes of a row, the highest of all samples first, each less the one before."""
    height, size = values.shape[0], values.dtype.itemsize
    as_bytes = values.astype(values.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1, size)
    rows = as_bytes.swapaxes(1, 2).reshape(height, -1)
    return np.diff(rows, axis=1, prepend=np.uint8(0)).astype(np.uint8).tobytes()


def _compressed(strip: bytes, compression: int) -> bytes:
    plain: Callable[[bytes], bytes] = bytes
    return {DEFLATE: zlib.compress, LZW: _lzw, PACKBITS: _packbits}.get(compression, plain)(strip)


def _packbits(strip: bytes) -> bytes:
    return b"".join(
        bytes([len(part) - 1]) + part for part in (strip[at : at + 128] for at in range(0, len(strip), 128))
    )


def _lzw(strip: bytes) -> bytes:
    """All literals, of nine bits; the table is cleared before it needs ten."""
    codes: list[int] = []
    for at in range(0, len(strip), _LZW_RUN):
        codes += [_LZW_CLEAR, *strip[at : at + _LZW_RUN]]
    digits = "".join(f"{code:09b}" for code in [*codes, _LZW_END])
    return int(digits.ljust(-(-len(digits) // 8) * 8, "0"), 2).to_bytes(-(-len(digits) // 8))


def _file(
    entries: Mapping[int, tuple[int, ...]], places: tuple[int, int], strips: list[bytes], order: str, big: bool
) -> bytes:
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    count, entry, inline, first = ("Q", "HHQ", 8, 16) if big else ("H", "HHI", 4, 8)
    head += struct.pack(f"{order}HHQ", 8, 0, first) if big else struct.pack(f"{order}I", first)
    after = first + struct.calcsize(order + count) + (len(entries) + 2) * (8 + 2 * inline - 4 * (not big)) + inline
    after = first + struct.calcsize(order + count) + (len(entries) + 2) * (20 if big else 12) + inline
    offsets, body = [], b""
    for strip in strips:
        offsets.append(after + len(body))
        body += strip + bytes(len(strip) % 2)
    values = {tag: ("H", value) for tag, value in entries.items()}
    values |= {places[0]: ("I", tuple(offsets)), places[1]: ("I", tuple(len(strip) for strip in strips))}
    directory = b""
    for tag, (letter, value) in sorted(values.items()):
        content = struct.pack(f"{order}{len(value)}{letter}", *value)
        directory += struct.pack(order + entry, tag, 3 if letter == "H" else 4, len(value))
        if len(content) > inline:
            directory += struct.pack(order + ("Q" if big else "I"), after + len(body))
            body += content + bytes(len(content) % 2)
        else:
            directory += content.ljust(inline, b"\0")
    return head + struct.pack(order + count, len(values)) + directory + bytes(inline) + body


def scaled(values: tuple[Any, ...], bits: int) -> Integers:
    """The scene of those 8-bit values at another depth."""
    return quadrants(values) * ((1 << bits) - 1) // 255


def every_tiff() -> Iterator[Kind]:
    """All of them."""
    for kind in _seen():
        refused = _REFUSED.search(kind.name)
        yield kind._replace(seen="The TIFF has ") if refused else kind


def _seen() -> Iterator[Kind]:
    """As a careful viewer shows them."""
    for order in "<>":
        end = " MM" if order == ">" else ""
        yield from _greys(order, end)
        yield from _colors(order, end)
        yield from _numbers(order, end)
    yield from _layouts()


def _greys(order: str, end: str) -> Iterator[Kind]:
    for bits in (1, 2, 4, 8, 12, 16, 32):
        levels = GREYS if bits > 1 else (0, 255, 255, 0)
        for photometric, shown in ((WHITE_IS_ZERO, tuple(255 - level for level in levels)), (BLACK_IS_ZERO, levels)):
            for name, compression in (("", NONE), (" deflate", DEFLATE)):
                for fill_order in (1, 2):
                    payload = tiff(
                        scaled(levels, bits),
                        bits,
                        photometric,
                        order=order,
                        compression=compression,
                        fill_order=fill_order,
                    )
                    filled = " fill 2" if fill_order == 2 else ""
                    label = f"TIFF {'white is 0' if photometric == 0 else 'grey'} {bits} bit{name}{filled}{end}"
                    yield Kind(label, payload, grey(*shown), 1)
    for bits in (8, 16):
        for extra in (0, 1, 2):
            pairs = tuple(
                (level * opacity // 255 if extra == 1 else level, opacity)
                for level, opacity in zip(GREYS, OPACITIES, strict=True)
            )
            shown_over = grey(*GREYS) if extra == 0 else over_white(grey(*GREYS))
            for planar in (False, True):
                payload = tiff(
                    scaled(pairs, bits), bits, BLACK_IS_ZERO, order=order, planar=planar, tags={338: (extra,)}
                )
                yield Kind(
                    f"TIFF grey {bits} bit extra {extra}{' planar' if planar else ''}{end}", payload, shown_over, 2
                )


def _colors(order: str, end: str) -> Iterator[Kind]:
    for bits in (1, 2, 4, 8, 12, 16, 32):
        colors = COLORS if bits > 1 else ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))
        for planar in (False, True):
            for name, compression in (("", NONE), (" deflate", DEFLATE)):
                payload = tiff(scaled(colors, bits), bits, RGB, order=order, planar=planar, compression=compression)
                yield Kind(f"TIFF rgb {bits} bit{name}{' planar' if planar else ''}{end}", payload, colors, 1)
    for bits in (8, 16):
        for extra in (0, 1, 2):
            values = tuple(
                (*(level * opacity // 255 if extra == 1 else level for level in color), opacity)
                for color, opacity in zip(COLORS, OPACITIES, strict=True)
            )
            for name, compression in (("", NONE), (" deflate", DEFLATE)):
                for planar in (False, True):
                    payload = tiff(
                        scaled(values, bits),
                        bits,
                        RGB,
                        order=order,
                        planar=planar,
                        compression=compression,
                        tags={338: (extra,)},
                    )
                    label = f"TIFF rgb {bits} bit extra {extra}{name}{' planar' if planar else ''}{end}"
                    yield Kind(label, payload, COLORS if extra == 0 else over_white(COLORS), 3)
    yield from _palettes(order, end)
    yield from _separations(order, end)


def _palettes(order: str, end: str) -> Iterator[Kind]:
    for bits in (1, 2, 4, 8):
        count = 1 << bits
        colors = tuple(COLORS[at % min(4, count)] for at in range(4))
        table = tuple(COLORS[at % 4][channel] * 257 for channel in range(3) for at in range(count))
        for fill_order in (1, 2):
            payload = tiff(
                quadrants(tuple(at % count for at in range(4))),
                bits,
                PALETTE,
                order=order,
                fill_order=fill_order,
                tags={320: table},
            )
            yield Kind(f"TIFF palette {bits} bit{' fill 2' if fill_order == 2 else ''}{end}", payload, colors)


def _separations(order: str, end: str) -> Iterator[Kind]:
    inks = tuple((*(255 - level for level in color), 0) for color in COLORS)
    for bits in (8, 16):
        for planar in (False, True):
            for name, compression in (("", NONE), (" deflate", DEFLATE)):
                payload = tiff(
                    scaled(inks, bits),
                    bits,
                    SEPARATED,
                    order=order,
                    planar=planar,
                    compression=compression,
                    tags={332: (1,)},
                )
                yield Kind(f"TIFF cmyk {bits} bit{name}{' planar' if planar else ''}{end}", payload, COLORS, 1)
    lab = ((255, 0, 0), (0, 0, 0), (138, 0, 0), (138, 60, 40))  # white, black, grey and a red
    payload = tiff(quadrants(lab), 8, CIELAB, order=order)
    yield Kind(f"TIFF lab 8 bit{end}", payload, ((255, 255, 255), (0, 0, 0), (129, 129, 129), (227, 72, 65)), 2)
    ycbcr = ((255, 128, 128), (0, 128, 128), (76, 85, 255), (29, 255, 107))
    for name, compression in (("", NONE), (" deflate", DEFLATE)):
        payload = tiff(quadrants(ycbcr), 8, YCBCR, order=order, compression=compression, tags={530: (1, 1)})
        yield Kind(f"TIFF ycbcr 8 bit{name}{end}", payload, ((255, 255, 255), (0, 0, 0), (254, 0, 0), (0, 0, 254)), 3)


def _numbers(order: str, end: str) -> Iterator[Kind]:
    for bits in (16, 32, 64):
        for name, values in (("fractions", np.array(GREYS) / 255), ("8-bit values", np.array(GREYS, float))):
            for photometric, shown in ((BLACK_IS_ZERO, GREYS), (WHITE_IS_ZERO, GREYS[::-1])):
                scene = quadrants((0, 1, 2, 3))
                payload = tiff(values[scene], bits, photometric, order=order)
                label = f"TIFF {'white is 0' if photometric == 0 else 'grey'} float {bits} {name}{end}"
                yield Kind(label, payload, grey(*shown), 1)
        payload = tiff((np.array(COLORS) / 255)[quadrants((0, 1, 2, 3))[:, :, 0]], bits, RGB, order=order)
        yield Kind(f"TIFF rgb float {bits}{end}", payload, COLORS, 1)
    for bits in (8, 16, 32):
        most = (1 << (bits - 1)) - 1
        levels = tuple(level * most // 255 for level in GREYS)
        payload = tiff(quadrants(levels), bits, BLACK_IS_ZERO, order=order, tags={339: (_SIGNED,)})
        yield Kind(f"TIFF grey signed {bits} bit{end}", payload, grey(*(level // 2 for level in GREYS)), 1)
        negative = (-most - 1, -most // 3, 0, most)
        payload = tiff(quadrants(negative), bits, BLACK_IS_ZERO, order=order, tags={339: (_SIGNED,)})
        yield Kind(f"TIFF grey signed {bits} bit negative{end}", payload, grey(0, 0, 0, 127), 1)


def _layouts() -> Iterator[Kind]:
    for name, compression in _COMPRESSIONS.items():
        for bits in (8, 16):
            for tiled in (False, True):
                for predictor in (1, 2) if compression in (LZW, DEFLATE) else (1,):
                    payload = tiff(
                        scaled(COLORS, bits),
                        bits,
                        RGB,
                        compression=compression,
                        tiled=tiled,
                        rows=16,
                        predictor=predictor,
                    )
                    yield Kind(
                        f"TIFF rgb {bits} bit {name} predictor {predictor}{' tiled' if tiled else ''}",
                        payload,
                        COLORS,
                        1,
                    )
    fractions = (np.array(GREYS) / 255)[quadrants((0, 1, 2, 3))]
    yield Kind(
        "TIFF grey float 32 deflate predictor 3",
        tiff(fractions, 32, BLACK_IS_ZERO, compression=DEFLATE, predictor=3),
        grey(*GREYS),
        1,
    )
    for big, order in ((True, "<"), (True, ">")):
        yield Kind(f"BigTIFF rgb 8 bit {order}", tiff(scaled(COLORS, 8), 8, RGB, big=big, order=order), COLORS)
        yield Kind(
            f"BigTIFF white is 0 16 bit {order}",
            tiff(scaled(GREYS, 16), 16, WHITE_IS_ZERO, big=big, order=order),
            grey(*GREYS[::-1]),
            1,
        )
    turned = (
        (0, 1, 2, 3),
        (1, 0, 3, 2),
        (3, 2, 1, 0),
        (2, 3, 0, 1),
        (0, 2, 1, 3),
        (2, 0, 3, 1),
        (3, 1, 2, 0),
        (1, 3, 0, 2),
    )
    for at, places in enumerate(turned):
        payload = tiff(scaled(GREYS, 16), 16, WHITE_IS_ZERO, tags={274: (at + 1,)})
        yield Kind(
            f"TIFF white is 0 16 bit orientation {at + 1}", payload, grey(*(255 - GREYS[place] for place in places)), 1
        )
