"""TIFF files made tag by tag: every depth, coding and order, strips and tiles that share bytes, directories in loops.

What is in a strip is coded as its tag says, in most of them; so the decoders behind Pillow are reached.
"""

import io
import lzma
import random
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from math import ceil
from typing import NamedTuple

from PIL import Image, TiffImagePlugin

from tests.fuzzing import extremes

DATA_AT = 16  # where what is no directory begins
_FORMATS = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}
_DIRECTORIES = (330, 34665, 34853, 40965)
_TILES = ((16, 16), (16, 16), (64, 32), (256, 256), (4096, 4096), (65_520, 16), (16, 65_520), (1, 1), (0, 16), (17, 5))
_MOST_STRIPS = 60_000
_MOST_STRIP_BYTES = 100_000


Jpeg = Callable[[int, int, int], bytes]


class Tag(NamedTuple):
    """One entry of a directory. `values`: whole numbers, or the bytes that are there."""

    number: int
    kind: int
    values: Sequence[int] | bytes


class Kind(NamedTuple):
    """What a pixel consists of: bits and number of its samples, photometric interpretation, sample format."""

    bits: int
    samples: int
    photometric: int
    format: int = 1


_KINDS = (
    *(Kind(bits, 1, white) for bits in (1, 2, 4, 8, 12, 16, 32) for white in (0, 1)),
    *(Kind(bits, 1, 3) for bits in (1, 2, 4, 8)),
    *(Kind(8, samples, 2) for samples in (3, 4, 5, 6)),
    *(Kind(16, samples, 2) for samples in (3, 4)),
    *(Kind(8, 4, 5), Kind(8, 5, 5), Kind(16, 4, 5), Kind(8, 3, 6), Kind(8, 3, 8), Kind(8, 2, 1), Kind(1, 1, 4)),
    *(Kind(32, 1, 1, 3), Kind(64, 1, 1, 3), Kind(16, 1, 1, 2), Kind(8, 1, 1, 2), Kind(32, 1, 1, 2), Kind(8, 1, 9)),
)
_KINDS_OF = {
    **dict.fromkeys((2, 3, 4, 32771, 32809), (Kind(1, 1, 0), Kind(1, 1, 1))),
    **dict.fromkeys((6, 7), (Kind(8, 1, 1), Kind(8, 3, 2), Kind(8, 3, 6), Kind(8, 3, 6), Kind(8, 4, 5))),
    50001: (Kind(8, 3, 2), Kind(8, 4, 2)),
}
_USUAL_SAMPLES = {2: 3, 5: 4, 6: 3, 8: 3, 9: 3}
_PHOTOMETRICS = (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 32803, 32844, 32845)
_CODINGS = (1, 1, 1, 8, 8, 32946, 5, 32773, 32773, 7, 7, 7, 6, 2, 3, 4, 32771, 32766, 32809, 34676, 34677, 34712, 34925,
            50000, 50001, 0, 9, 65_535)  # fmt: skip


def tiff_file(tags: Iterable[Tag], data: bytes, *, order: str = "<", is_big: bool = False, following: int = 0) -> bytes:
    """`data` at DATA_AT, then the one directory. `following`: where the next one is; -1 is the same again."""
    number, head = ("Q", "HHQ") if is_big else ("I", "HHI")
    room = struct.calcsize("=" + number)
    at = DATA_AT + len(data) + len(data) % 2
    entries = sorted(tags)
    beyond = at + (8 if is_big else 2) + (4 + 2 * room) * len(entries) + room
    directory, outside = bytearray(struct.pack(order + ("Q" if is_big else "H"), len(entries))), bytearray()
    for tag in entries:
        value = _packed(tag, order)
        directory += struct.pack(order + head, tag.number, tag.kind, _count(tag))
        if len(value) > room:
            at_value, outside = beyond + len(outside), outside + value
            value = struct.pack(order + number, at_value)
        directory += value.ljust(room, b"\0")
    directory += struct.pack(order + number, at if following < 0 else following) + outside
    mark = b"II" if order == "<" else b"MM"
    version = struct.pack(order + ("HHHQ" if is_big else "HI"), *((43, 8, 0, at) if is_big else (42, at)))
    return b"".join(((mark + version).ljust(DATA_AT, b"\0"), data, bytes(len(data) % 2), directory))


def _count(tag: Tag) -> int:
    return len(tag.values) // {5: 8, 10: 8, 11: 4, 12: 8}.get(tag.kind, 1)


def _packed(tag: Tag, order: str) -> bytes:
    if isinstance(tag.values, bytes):
        return tag.values
    kind = _FORMATS.get(tag.kind, "I")
    most = (1 << 8 * struct.calcsize(kind)) - 1
    return struct.pack(f"{order}{len(tag.values)}{kind.upper()}", *(value & most for value in tag.values))


def tiff_image(rng: random.Random, jpeg: Jpeg) -> bytes:
    """`jpeg`: makes a stream for a strip or tile of that width, height and number of channels."""
    sides = extremes.size(rng)
    coding = rng.choice(_CODINGS)
    kind = rng.choice(_KINDS_OF.get(coding, _KINDS))
    if rng.random() < 0.1:
        kind = Kind(rng.choice((1, 2, 3, 6, 8, 12, 16, 24, 32, 64)), rng.choice((0, 1, 2, 3, 4, 9, 300, 65_535)),
                    rng.choice(_PHOTOMETRICS), rng.choice((1, 2, 3, 4, 5, 6)))  # fmt: skip
    planes = rng.choice((1, 1, 1, 2))
    piece, tags = _cut(sides, rng)
    number = ceil(sides[0] / max(1, piece[0])) * ceil(sides[1] / max(1, piece[1]))
    number *= kind.samples if planes == 2 else 1
    if rng.random() < 0.1:
        number = rng.choice((0, 1, number + 1, extremes.repeats(rng)))
    content = _coded(coding, piece, kind, planes, rng, jpeg)
    data, places = _placed(content, min(number, _MOST_STRIPS), rng)
    is_tiled = any(tag.number == 322 for tag in tags)
    offsets, lengths = (324, 325) if is_tiled else (273, 279)
    long = rng.choice((4, 4, 4, 3, 16))
    tags += [Tag(256, 4, [sides[0]]), Tag(257, 4, [sides[1]]), Tag(258, 3, [kind.bits] * min(kind.samples, 600)),
             Tag(259, 3, [coding]), Tag(262, 3, [kind.photometric]), Tag(277, 3, [kind.samples]),
             Tag(284, 3, [planes]), Tag(offsets, long, [at for at, _ in places])]  # fmt: skip
    tags.append(Tag(lengths, long, [length for _, length in places]))
    tags += _besides(kind, coding, content, rng)
    return tiff_file(tags, data, order=rng.choice("<<<>"), is_big=rng.random() < 0.1,
                     following=rng.choice((0, 0, 0, -1, DATA_AT, 1 << 30)))  # fmt: skip


def _cut(sides: tuple[int, int], rng: random.Random) -> tuple[tuple[int, int], list[Tag]]:
    """Into tiles or strips: the sides of one, and the tags that say so."""
    if rng.random() < 0.35:
        piece = rng.choice(_TILES)
        return piece, [Tag(322, 4, [piece[0]]), Tag(323, 4, [piece[1]])]
    rows = rng.choice((1, 1, 2, 8, 16, sides[1], sides[1], sides[1], (1 << 32) - 1, 0))
    return (sides[0], min(rows or sides[1], sides[1])), [Tag(278, 4, [rows])] if rng.random() < 0.95 else []


def _coded(
    coding: int, piece: tuple[int, int], kind: Kind, planes: int, rng: random.Random, jpeg: Jpeg
) -> bytes:  # fmt: skip
    channels = 1 if planes == 2 else kind.samples
    needed = piece[1] * ((piece[0] * kind.bits * channels + 7) // 8)
    if coding in (6, 7):
        return jpeg(*piece, channels)
    coder = _CODERS.get(coding)
    if coder is None or rng.random() < 0.1:
        return rng.randbytes(rng.choice((1, 50, 800)))
    return coder(needed, rng)


def _plain(needed: int, rng: random.Random) -> bytes:
    return (rng.randbytes(64) * (min(needed, _MOST_STRIP_BYTES) // 64 + 1))[:needed]


def _deflated(needed: int, rng: random.Random) -> bytes:
    return extremes.bomb(rng) if rng.random() < 0.4 else extremes.folded(min(needed, extremes.MOST_UNFOLDED_BYTES))


def _packed_bits(needed: int, rng: random.Random) -> bytes:
    runs = rng.choice((b"\x81\0", b"\x81\0", b"\x80", b"\0\1", b"\xff\7"))
    return (runs * _MOST_STRIP_BYTES)[: min(needed + 2, _MOST_STRIP_BYTES)]


def _lzw_coded(needed: int, rng: random.Random) -> bytes:
    whole = _lzw(min(24, needed.bit_length()))
    return whole if rng.random() < 0.8 else whole[:2] + rng.randbytes(50) * rng.choice((1, 1000))


def _lzma_coded(needed: int, rng: random.Random) -> bytes:
    return lzma.compress(bytes(min(needed, 20_000)), preset=0)


_CODERS = {1: _plain, 8: _deflated, 32946: _deflated, 32773: _packed_bits, 5: _lzw_coded, 34925: _lzma_coded}


@cache
def _lzw(bits: int) -> bytes:
    """So many zeros, in powers of two, as LZW codes them."""
    file = io.BytesIO()
    image = Image.new("L", (1 << (bits + 1) // 2, 1 << bits // 2))
    image.save(file, "TIFF", compression="tiff_lzw", strip_size=1 << bits)
    file.seek(0)
    with TiffImagePlugin.TiffImageFile(file) as whole:
        (at,), (length,) = whole.tag_v2[273], whole.tag_v2[279]
    return file.getvalue()[at : at + length]


def _placed(content: bytes, number: int, rng: random.Random) -> tuple[bytes, list[tuple[int, int]]]:
    """Where so many pieces are, and how long: each on its own, all at one place, one byte apart, or elsewhere."""
    length, how = len(content), rng.random()
    if how < 0.4 and length * number <= _MOST_STRIP_BYTES:
        return content * number, [(DATA_AT + length * index, length) for index in range(number)]
    if how < 0.8:
        return content, [(DATA_AT, length)] * number
    if how < 0.9:
        return content, [(DATA_AT + (number - index) % max(1, length), length) for index in range(number)]
    lengths = (0, 1, length + 1, 1 << 30, (1 << 32) - 1)
    return content, [(rng.choice((0, 8, DATA_AT, 1 << 20)), rng.choice(lengths)) for _ in range(min(number, 300))]


def _besides(kind: Kind, coding: int, content: bytes, rng: random.Random) -> list[Tag]:
    """What goes with the kind of pixels, and some of what may go with any."""
    tags = [Tag(339, 3, [kind.format] * min(kind.samples, 600))] if kind.format != 1 else []
    if kind.photometric == 3:
        tags.append(Tag(320, 3, [rng.randrange(65_536) for _ in range(3 << min(kind.bits, 8))]))
    extra = min(300, kind.samples - _USUAL_SAMPLES.get(kind.photometric, 1))
    if extra > 0:
        tags.append(Tag(338, 3, [rng.choice((0, 1, 2))] * (extra if rng.random() < 0.9 else kind.samples)))
    if coding == 6:
        tags += [Tag(512, 3, [rng.choice((1, 14))]), Tag(513, 4, [DATA_AT]), Tag(514, 4, [len(content)])]
        tags += [Tag(number, 4, [DATA_AT] * kind.samples) for number in (519, 520, 521) if rng.random() < 0.3]
    if coding == 7 and rng.random() < 0.4:
        tags.append(Tag(347, 7, rng.choice((content[:600], content, content * (extremes.repeats(rng) % 20)))))
    tags += [tag for tag in _ANY if rng.random() < 0.03]
    tags += [Tag(number, rng.choice((4, 13)), [rng.choice((DATA_AT, 8, DATA_AT + len(content), 1 << 31))])
             for number in _DIRECTORIES if rng.random() < 0.1]  # fmt: skip
    if rng.random() < 0.1:
        tags += [Tag(rng.randrange(65_536), rng.randint(0, 18), bytes(8))] * extremes.repeats(rng)
    return tags


_ANY = (
    *(Tag(266, 3, [2]), Tag(317, 3, [2]), Tag(317, 3, [3]), Tag(274, 3, [6]), Tag(274, 3, [900]), Tag(292, 4, [1])),
    *(Tag(530, 3, [2, 2]), Tag(530, 3, [4, 1]), Tag(530, 3, [0, 0]), Tag(531, 3, [2]), Tag(282, 5, bytes(8))),
    *(Tag(270, 2, b"words" * 50), Tag(700, 1, b"<x:xmpmeta/>"), Tag(33723, 7, bytes(40)), Tag(34377, 1, b"8BIM" * 9)),
    Tag(34675, 7, zlib.decompress(extremes.folded(1000))),
)
