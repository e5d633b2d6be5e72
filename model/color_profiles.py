"""An embedded ICC profile -> colors in sRGB, by LittleCMS, which gets only checked tags.

A profile may come from anybody, and LittleCMS is C. A new profile is written with the matrix and curves of RGB, the
curve of grey, or the one table of CMYK, each of a known type, size and number. A profile without these is ignored, as
viewers do. Knows nothing of files, models or limits.
"""

import io
import struct
from collections.abc import Mapping
from typing import NamedTuple

from PIL import Image, ImageCms

MAX_BYTES = 2 << 20  # profiles of printing presses have half a megabyte to two

_HEADER, _ENTRY = struct.Struct(">I4xB3x4s4s4s12x4s"), struct.Struct(">4sII")
_TAGS_AT, _MAX_TAGS = 128, 100
_MAX_CURVE_POINTS, _PARAMETERS = 4096, (1, 3, 4, 5, 7)  # of a parametric curve, by its type
_CURVES, _COLUMNS, _GREY_CURVE, _INK_TABLE = (b"rTRC", b"gTRC", b"bTRC"), (b"rXYZ", b"gXYZ", b"bXYZ"), b"kTRC", b"A2B0"
_INKS, _COORDINATES, _MAX_GRID = 4, 3, 33
_D50 = (0xF6D6, 0x10000, 0xD32D)  # fixed-point, as all profiles have it
_SRGB_COLUMNS = (0.4361, 0.2225, 0.0139, 0.3851, 0.7169, 0.0971, 0.1431, 0.0606, 0.7141)
_SRGB_CURVE = ((0.05, 0.00402), (0.25, 0.05088), (0.5, 0.21404), (0.75, 0.52252))
_NEAR = 0.002  # the difference among profiles that all are sRGB
_SPACES = {"RGB": b"RGB ", "RGBA": b"RGB ", "L": b"GRAY", "LA": b"GRAY", "CMYK": b"CMYK"}


class _Profile(NamedTuple):
    """The checked part of a profile: its version, color space, connection space, and tags."""

    version: int
    space: bytes
    connection: bytes
    tags: Mapping[bytes, bytes]


def matters(content: object) -> bool:
    """Whether a picture has a profile that is supported and differs from sRGB."""
    return isinstance(content, bytes) and _kept(content) is not None


def to_srgb(image: Image.Image, content: object) -> Image.Image:
    """A loaded picture of 8 bits a channel in sRGB, by its profile.

    A picture whose profile is sRGB, broken, or for another mode, is returned as it is. Palettes become colors.
    """
    profile = _kept(content) if isinstance(content, bytes) else None
    if profile is None:
        return image
    image = _with_plain_values(image)
    if _SPACES.get(image.mode) != profile.space:
        return image
    try:
        return _transformed(image, _written(profile))
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


def _with_plain_values(image: Image.Image) -> Image.Image:
    """The picture without a palette or a transparent value: a transform supports neither."""
    has_opacity = image.mode == "PA" or "transparency" in image.info
    if image.mode in ("P", "PA", "RGB") and (has_opacity or image.mode == "P"):
        return image.convert("RGBA" if has_opacity else "RGB")
    return image.convert("LA") if image.mode == "L" and has_opacity else image


def _transformed(image: Image.Image, profile: bytes) -> Image.Image:
    """Raises ImageCms.PyCMSError, ValueError."""
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    if image.mode == "LA":
        grey, opacity = image.split()
        shown = _transformed(grey, profile)
        shown.putalpha(opacity)
        return shown
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    transform = ImageCms.buildTransform(source, target, image.mode, mode)
    if image.mode == mode:
        return transform.apply_in_place(image)
    shown = transform.apply(image)
    return shown.convert("L") if image.mode == "L" else shown


def _kept(content: bytes) -> _Profile | None:
    """The supported part of a profile; None where it is no profile, is sRGB, or has no supported tags."""
    if not _TAGS_AT + 4 <= len(content) <= MAX_BYTES:
        return None
    _, version, _, space, connection, signature = _HEADER.unpack_from(content)
    tags = _tags(content) if signature == b"acsp" and version in (2, 4) else {}
    if space == b"CMYK" and connection == b"Lab " and _is_ink_table(tags.get(_INK_TABLE, b"")):
        return _Profile(version, space, connection, {_INK_TABLE: tags[_INK_TABLE]})
    if connection == b"XYZ " or space == b"GRAY":
        return _kept_curves(version, space, tags)
    return None


def _kept_curves(version: int, space: bytes, tags: Mapping[bytes, bytes]) -> _Profile | None:
    names = {b"RGB ": _CURVES, b"GRAY": (_GREY_CURVE,)}.get(space, ())
    matrix = {name: tags.get(name, b"")[8:20] for name in _COLUMNS} if space == b"RGB " else {}
    curves = {name: curve for name in names if (curve := _curve(tags.get(name, b""))) is not None}
    if not names or len(curves) < len(names) or any(len(column) != 12 for column in matrix.values()):
        return None
    if all(map(_is_srgb_curve, curves.values())) and _is_srgb_matrix(b"".join(matrix.values())):
        return None
    columns = {name: b"XYZ \0\0\0\0" + column for name, column in matrix.items()}
    return _Profile(version, space, b"XYZ ", columns | curves)


def _tags(content: bytes) -> dict[bytes, bytes]:
    """The tags that lie within the profile, by name."""
    (count,) = struct.unpack_from(">I", content, _TAGS_AT)
    entries = content[_TAGS_AT + 4 : _TAGS_AT + 4 + _ENTRY.size * min(count, _MAX_TAGS)]
    whole = entries[: len(entries) // _ENTRY.size * _ENTRY.size]
    return {name: content[at : at + size] for name, at, size in _ENTRY.iter_unpack(whole) if at + size <= len(content)}


def _curve(tag: bytes) -> bytes | None:
    """A curve without trailing bytes; None where its type is unknown, or it is cut off."""
    if tag[:4] == b"curv" and len(tag) >= 12:
        (points,) = struct.unpack_from(">I", tag, 8)
        size = 12 + 2 * points
        return tag[:size] if points <= _MAX_CURVE_POINTS and len(tag) >= size else None
    if tag[:4] == b"para" and len(tag) >= 12:
        (kind,) = struct.unpack_from(">H", tag, 8)
        size = 12 + 4 * _PARAMETERS[kind] if kind < len(_PARAMETERS) else len(tag) + 1
        return tag[:size] if len(tag) >= size else None
    return None


def _is_srgb_curve(curve: bytes) -> bool:
    if curve[:4] == b"curv":
        (points,) = struct.unpack_from(">I", curve, 8)
        table = struct.unpack_from(f">{points}H", curve, 12)
        return bool(points > 2) and all(
            abs(table[round(at * (points - 1))] / 65535 - value) < _NEAR for at, value in _SRGB_CURVE
        )
    if curve[8:10] != b"\0\3":
        return False
    g, a, b, c, d = (value / 65536 for value in struct.unpack_from(">5i", curve, 12))
    return bool(max(abs(g - 2.4), abs(a - 0.9479), abs(b - 0.0521), abs(c - 0.0774), abs(d - 0.0405)) < _NEAR)


def _is_srgb_matrix(columns: bytes) -> bool:
    """Whether columns of fixed-point numbers are those of sRGB; grey has none."""
    values = struct.unpack(f">{len(columns) // 4}i", columns)
    return all(abs(value / 65536 - srgb) < _NEAR for value, srgb in zip(values, _SRGB_COLUMNS, strict=False))


def _is_ink_table(tag: bytes) -> bool:
    """Whether it is a table of four inks to Lab, of 8 or 16 bits, and as long as its header says."""
    if tag[:4] not in (b"mft1", b"mft2") or len(tag) < 52 or tag[8:10] != bytes((_INKS, _COORDINATES)):
        return False
    grid = tag[10]
    is_wide = tag[:4] == b"mft2"
    entries, exits = struct.unpack_from(">HH", tag, 48) if is_wide else (256, 256)
    values = _INKS * entries + _COORDINATES * grid**_INKS + _COORDINATES * exits
    size = (52 + 2 * values) if is_wide else 48 + values
    few = all(2 <= points <= _MAX_CURVE_POINTS for points in (entries, exits))
    return few and 2 <= grid <= _MAX_GRID and size <= len(tag) <= size + 4


def _written(profile: _Profile) -> bytes:
    """A new profile with the checked tags alone."""
    tags = {b"wtpt": struct.pack(">4s4x3i", b"XYZ ", *_D50), **profile.tags}
    at, entries, body = _TAGS_AT + 4 + _ENTRY.size * len(tags), b"", b""
    for name, tag in tags.items():
        entries += _ENTRY.pack(name, at + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    kind = b"prtr" if profile.space == b"CMYK" else b"mntr"
    header = struct.pack(
        ">I4xB3x4s4s4s12x4s", at + len(body), profile.version, kind, profile.space, profile.connection, b"acsp"
    )
    header = header.ljust(68, b"\0") + struct.pack(">3i", *_D50)
    return header.ljust(_TAGS_AT, b"\0") + struct.pack(">I", len(tags)) + entries + body
