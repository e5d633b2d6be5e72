"""What kind of samples a TIFF has, in words, told from its first directory. Decodes nothing; knows nothing of costs."""

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_SAMPLES, _PLANES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 277, 284, 338, 339
_NAMED = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER}
_NAMED |= {_SAMPLES, _PLANES, _EXTRA_SAMPLES, _SAMPLE_FORMAT}
_PROFILE, _UNDEFINED = 34675, 7
_LETTERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of types of whole numbers
_BYTES = {3: 2, 4: 4, 16: 8}
_MOST_VALUES, _MOST_ENTRIES = 8, 1000  # that are looked at
_HEADS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
_COLORS = {
    0: "white for 0",
    1: "black for 0",
    2: "RGB",
    3: "a palette",
    4: "a mask",
    5: "inks",
    6: "YCbCr",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "a colour filter array",
    32844: "LogL",
    32845: "LogLuv",
}
_NUMBERS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_TRANSPARENCY = {0: "extra ones", 1: "premultiplied alpha", 2: "alpha"}


class _Layout(NamedTuple):
    """How the numbers of a directory are written: their order, and those of BigTIFF."""

    order: str
    big: bool


class _Entry(NamedTuple):
    """A tag of a directory: the type and number of its values, and where they are."""

    tag: int
    kind: int
    number: int
    place: int


def profile_place(payload: bytes) -> tuple[int, int] | None:
    """Where the color profile of a TIFF is, and how many bytes it has."""
    layout = _HEADS.get(payload[:4])
    try:
        entries = _entries(payload, _Layout(*layout)) if layout else iter(())
        return next(((entry.place, entry.number) for entry in entries if entry[:2] == (_PROFILE, _UNDEFINED)), None)
    except struct.error:
        return None


def unsupported(payload: bytes) -> str | None:
    """The samples of a TIFF in words, for one that has a size and cannot be shown; None where its head is broken."""
    layout = _HEADS.get(payload[:4])
    if layout is None:
        return None
    try:
        tags = _tags(payload, _Layout(*layout))
    except struct.error:
        return None
    return _words(tags, _Layout(*layout)) if tags.get(_WIDTH) and tags.get(_HEIGHT) else None


def _words(tags: Mapping[int, tuple[int, ...]], layout: _Layout) -> str:
    bits = tags.get(_BITS, (1,))
    count = tags.get(_SAMPLES, (len(bits),))[0]
    colors = tags.get(_PHOTOMETRIC, (0,))[0]
    numbers = _NUMBERS.get(tags.get(_SAMPLE_FORMAT, (1,))[0])
    words = [
        f"{count} {'channel' if count == 1 else 'channels'} of {' and '.join(map(str, dict.fromkeys(bits)))}"
        f"{f' {numbers}' if numbers else ''} {'bit' if bits == (1,) * len(bits) else 'bits'}",
        _COLORS.get(colors, f"photometric interpretation {colors}"),
        *(_TRANSPARENCY.get(extra, f"extra samples of type {extra}") for extra in tags.get(_EXTRA_SAMPLES, ())[:1]),
        *(["separate planes"] if tags.get(_PLANES) == (2,) else []),
        *(["the lowest bit first"] if tags.get(_FILL_ORDER) == (2,) else []),
        f"compression {tags.get(_COMPRESSION, (1,))[0]}",
        f"{'big' if layout.order == '>' else 'little'}-endian{' BigTIFF' if layout.big else ''} order",
    ]
    return ", ".join(words)


def _tags(payload: bytes, layout: _Layout) -> dict[int, tuple[int, ...]]:
    """The values of the tags that say what samples there are. Raises struct.error."""
    tags = {}
    for entry in _entries(payload, layout):
        if entry.tag in _NAMED and entry.kind in _LETTERS and entry.number:
            form = f"{layout.order}{min(entry.number, _MOST_VALUES)}{_LETTERS[entry.kind]}"
            tags[entry.tag] = struct.unpack_from(form, payload, entry.place)
    return tags


def _entries(payload: bytes, layout: _Layout) -> Iterator[_Entry]:
    """Of the first directory. Raises struct.error."""
    count, form, inline, first = ("Q", "HHQ", 8, 8) if layout.big else ("H", "HHI", 4, 4)
    pointer = layout.order + ("Q" if layout.big else "I")
    (at,) = struct.unpack_from(pointer, payload, first)
    (entries,) = struct.unpack_from(layout.order + count, payload, at)
    at += struct.calcsize(layout.order + count)
    for _ in range(min(entries, _MOST_ENTRIES)):
        tag, kind, number = struct.unpack_from(layout.order + form, payload, at)
        at += struct.calcsize(layout.order + form)
        is_inline = number * _BYTES.get(kind, 1) <= inline
        place = at if is_inline else struct.unpack_from(pointer, payload, at)[0]
        yield _Entry(tag, kind, number, place)
        at += inline
