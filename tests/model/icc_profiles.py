"""ICC profiles to test with: of RGB by a matrix and curves, of grey by a curve, of inks by a table."""

import struct
from collections.abc import Sequence

Number = float
Columns = tuple[tuple[Number, Number, Number], ...]

SRGB: Columns = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3: Columns = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB: Columns = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB_CURVE = struct.pack(
    ">4s4xH2x5i", b"para", 3, *(round(65536 * one) for one in (2.4, 0.947867, 0.052133, 0.077399, 0.04045))
)


def profile(
    space: bytes, connection: bytes, tags: dict[bytes, bytes], version: int = 2, kind: bytes = b"mntr"
) -> bytes:
    """A profile of those tags."""
    at, entries, body = 132 + 12 * len(tags), b"", b""
    for name, tag in tags.items():
        entries += struct.pack(">4sII", name, at + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s", at + len(body), version << 24, kind, space, connection, b"acsp")
    header = header.ljust(68, b"\0") + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + body


def gamma(exponent: float) -> bytes:
    """A curve."""
    return struct.pack(">4s4xIH", b"curv", 1, round(256 * exponent))


def rgb_profile(columns: Columns, curve: bytes = SRGB_CURVE) -> bytes:
    """Of RGB: the colorants of a medium white of D50, and one curve for all."""
    matrix = {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    return profile(
        b"RGB ",
        b"XYZ ",
        {b"wtpt": _xyz((0.9642, 1.0, 0.8249)), **matrix, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)},
    )


def grey_profile(curve: bytes) -> bytes:
    """Of grey."""
    return profile(b"GRAY", b"XYZ ", {b"wtpt": _xyz((0.9642, 1.0, 0.8249)), b"kTRC": curve})


def ink_profile(grid: int = 2, lightness: Sequence[int] = (0xFF00, 0)) -> bytes:
    """Of CMYK, in which all inks are grey: the more of any, the darker, in Lab of 16 bits."""
    straight = struct.pack(">2H", 0, 0xFFFF)
    last = grid - 1
    table = b"".join(
        struct.pack(
            ">3H",
            lightness[0] + (lightness[1] - lightness[0]) * max(at // grid**place % grid for place in range(4)) // last,
            0x8000,
            0x8000,
        )
        for at in range(grid**4)
    )
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = (
        struct.pack(">4s4x4B", b"mft2", 4, 3, grid, 0)
        + identity
        + struct.pack(">2H", 2, 2)
        + straight * 4
        + table
        + straight * 3
    )
    return profile(b"CMYK", b"Lab ", {b"A2B0": lut}, kind=b"prtr")


def _xyz(values: Sequence[float]) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(65536 * value) for value in values))
