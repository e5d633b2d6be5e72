"""Bytes -> other bytes: at random, and in the pieces of a picture file. The same chance gives the same bytes."""

import random
import struct
import zlib
from collections.abc import Callable, Sequence

from tests.fuzzing.containers import Container, Piece, split

MOST_BYTES = 1 << 16
_MOST_UNFOLDED_BYTES = 1 << 18
_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 31, 32, 64, 100, 127, 128, 255, 256, 1000, 4096, 32767, 32768, 65535)
_LARGE = (1 << 20, 50_000_000, (1 << 31) - 1, 1 << 31, (1 << 32) - 2, (1 << 32) - 1)

# Names that decoders look for, whether or not a seed has them.
_NAMES: dict[str, tuple[bytes, ...]] = {
    "png": (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"pHYs", b"tEXt", b"zTXt",
            b"iTXt", b"eXIf", b"acTL", b"fcTL", b"fdAT"),
    "jpeg": tuple(bytes((0xFF, marker)) for marker in (*range(0xC0, 0xE0), 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE)),
    "gif": (b"!\xf9", b"!\xfe", b"!\xff", b"!\x01"),
    "webp": (b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"ICCP", b"EXIF", b"XMP "),
    "tiff": tuple(struct.pack("<H", tag) for tag in (
        254, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 282, 283, 284, 296, 301, 317, 320, 322, 323,
        324, 325, 338, 339, 347, 512, 513, 514, 529, 530, 531, 532, 700, 33723, 34377, 34665, 34675, 34853, 40965)),
}  # fmt: skip


def mutated(payload: bytes, partner: bytes, chance: random.Random, most_bytes: int = MOST_BYTES) -> bytes:
    """One to six changes. `partner`: another input, to take bytes or pieces from."""
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        container = split(payload) if chance.random() < 0.6 else None
        if container is not None and container.pieces:
            payload = _repieced(container, partner, chance)
        else:
            payload = spoiled(payload, partner, chance)
    return payload[:most_bytes]


def spoiled(payload: bytes, partner: bytes, chance: random.Random) -> bytes:
    """One change that knows nothing of what the bytes mean."""
    return chance.choice(_SPOILERS)(bytearray(payload or b"\0"), partner or b"\0", chance)


# --- bytes ---


def _flip_a_bit(payload: bytearray, partner: bytes, chance: random.Random) -> bytes:
    payload[chance.randrange(len(payload))] ^= 1 << chance.randrange(8)
    return bytes(payload)


def _set_a_byte(payload: bytearray, partner: bytes, chance: random.Random) -> bytes:
    payload[chance.randrange(len(payload))] = chance.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, chance.randrange(256)))
    return bytes(payload)


def _set_a_number(payload: bytearray, partner: bytes, chance: random.Random) -> bytes:
    form = chance.choice((">H", "<H", ">I", "<I"))
    size = struct.calcsize(form)
    number = chance.choice(_LARGE if chance.random() < 0.15 else _NUMBERS) & ((1 << 8 * size) - 1)
    at = chance.randrange(len(payload))
    payload[at : at + size] = struct.pack(form, number)
    return bytes(payload)


def _cut_out(payload: bytearray, partner: bytes, chance: random.Random) -> bytes:
    at, length = _span(payload, chance)
    del payload[at : at + length]
    return bytes(payload)


def _repeat(payload: bytearray, partner: bytes, chance: random.Random) -> bytes:
    at, length = _span(payload, chance)
    times = chance.choice((1, 1, 2, 8, 60))
    payload[at:at] = payload[at : at + length] * times
    return bytes(payload)


def _scatter(payload: bytearray, partner: bytes, chance: random.Random) -> bytes:
    at, length = _span(payload, chance)
    payload[at : at + min(length, 40)] = chance.randbytes(min(length, 40))
    return bytes(payload)


def _take_from_the_partner(payload: bytearray, partner: bytes, chance: random.Random) -> bytes:
    at, length = _span(payload, chance)
    start, taken = _span(partner, chance)
    payload[at : at + length * chance.randrange(2)] = partner[start : start + taken]
    return bytes(payload)


def _end_early(payload: bytearray, partner: bytes, chance: random.Random) -> bytes:
    return bytes(payload[: chance.randrange(len(payload)) + 1])


_SPOILERS: tuple[Callable[[bytearray, bytes, random.Random], bytes], ...] = (
    *(_flip_a_bit, _set_a_byte, _set_a_byte, _set_a_number, _set_a_number),
    *(_cut_out, _repeat, _scatter, _take_from_the_partner, _end_early),
)  # fmt: skip


def _span(payload: Sequence[int], chance: random.Random) -> tuple[int, int]:
    at = chance.randrange(len(payload))
    return at, min(chance.choice((1, 2, 4, 16, 64, len(payload))), len(payload) - at)


# --- pieces ---


def _repieced(container: Container, partner: bytes, chance: random.Random) -> bytes:
    pieces = list(container.pieces)
    at = chance.randrange(len(pieces))
    kind = chance.randrange(10)
    if kind < 5:
        pieces[at] = Piece(pieces[at].name, _respoiled(pieces[at].content, partner, chance))
    elif kind == 5:
        del pieces[at]
    elif kind == 6:
        pieces[at:at] = [pieces[at]] * chance.choice((1, 2, 30))
    elif kind == 7:
        other = chance.randrange(len(pieces))
        pieces[at], pieces[other] = pieces[other], pieces[at]
    elif kind == 8:
        pieces[at] = Piece(chance.choice(_NAMES[container.kind]), pieces[at].content)
    else:
        pieces.insert(at, _foreign_piece(container.kind, partner, chance))
    return container.join(pieces)


def _foreign_piece(kind: str, partner: bytes, chance: random.Random) -> Piece:
    other = split(partner)
    if other is not None and other.kind == kind and other.pieces:
        return chance.choice(other.pieces)
    return Piece(chance.choice(_NAMES[kind]), chance.randbytes(chance.choice((0, 1, 4, 8, 13, 26))))


def _respoiled(content: bytes, partner: bytes, chance: random.Random) -> bytes:
    """What is deflated inside is spoiled there, half of the time."""
    start = content.find(b"\x78") if chance.random() < 0.5 else -1
    if 0 <= start < 90:
        try:
            unfolded = zlib.decompressobj().decompress(content[start:], _MOST_UNFOLDED_BYTES)
        except zlib.error:
            return spoiled(content, partner, chance)
        return content[:start] + zlib.compress(spoiled(unfolded, partner, chance), 1)
    return spoiled(content, partner, chance)
