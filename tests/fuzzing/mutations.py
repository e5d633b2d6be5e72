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


def mutated(payload: bytes, partner: bytes, rng: random.Random, most_bytes: int = MOST_BYTES) -> bytes:
    """One to six changes. `partner`: another input, to take bytes or pieces from."""
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        container = split(payload) if rng.random() < 0.6 else None
        if container is not None and container.pieces:
            payload = _repieced(container, partner, rng)
        else:
            payload = spoiled(payload, partner, rng)
    return payload[:most_bytes]


def spoiled(payload: bytes, partner: bytes, rng: random.Random) -> bytes:
    """One change that knows nothing of what the bytes mean."""
    return rng.choice(_SPOILERS)(bytearray(payload or b"\0"), partner or b"\0", rng)


# --- bytes ---


def _flip_a_bit(payload: bytearray, partner: bytes, rng: random.Random) -> bytes:
    payload[rng.randrange(len(payload))] ^= 1 << rng.randrange(8)
    return bytes(payload)


def _set_a_byte(payload: bytearray, partner: bytes, rng: random.Random) -> bytes:
    payload[rng.randrange(len(payload))] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
    return bytes(payload)


def _set_a_number(payload: bytearray, partner: bytes, rng: random.Random) -> bytes:
    form = rng.choice((">H", "<H", ">I", "<I"))
    size = struct.calcsize(form)
    number = rng.choice(_LARGE if rng.random() < 0.15 else _NUMBERS) & ((1 << 8 * size) - 1)
    at = rng.randrange(len(payload))
    payload[at : at + size] = struct.pack(form, number)
    return bytes(payload)


def _cut_out(payload: bytearray, partner: bytes, rng: random.Random) -> bytes:
    at, length = _span(payload, rng)
    del payload[at : at + length]
    return bytes(payload)


def _repeat(payload: bytearray, partner: bytes, rng: random.Random) -> bytes:
    at, length = _span(payload, rng)
    times = rng.choice((1, 1, 2, 8, 60))
    payload[at:at] = payload[at : at + length] * times
    return bytes(payload)


def _scatter(payload: bytearray, partner: bytes, rng: random.Random) -> bytes:
    at, length = _span(payload, rng)
    payload[at : at + min(length, 40)] = rng.randbytes(min(length, 40))
    return bytes(payload)


def _take_from_the_partner(payload: bytearray, partner: bytes, rng: random.Random) -> bytes:
    at, length = _span(payload, rng)
    start, taken = _span(partner, rng)
    payload[at : at + length * rng.randrange(2)] = partner[start : start + taken]
    return bytes(payload)


def _end_early(payload: bytearray, partner: bytes, rng: random.Random) -> bytes:
    return bytes(payload[: rng.randrange(len(payload)) + 1])


_SPOILERS: tuple[Callable[[bytearray, bytes, random.Random], bytes], ...] = (
    *(_flip_a_bit, _set_a_byte, _set_a_byte, _set_a_number, _set_a_number),
    *(_cut_out, _repeat, _scatter, _take_from_the_partner, _end_early),
)  # fmt: skip


def _span(payload: Sequence[int], rng: random.Random) -> tuple[int, int]:
    at = rng.randrange(len(payload))
    return at, min(rng.choice((1, 2, 4, 16, 64, len(payload))), len(payload) - at)


# --- pieces ---


def _repieced(container: Container, partner: bytes, rng: random.Random) -> bytes:
    pieces = list(container.pieces)
    at = rng.randrange(len(pieces))
    kind = rng.randrange(10)
    if kind < 5:
        pieces[at] = Piece(pieces[at].name, _respoiled(pieces[at].content, partner, rng))
    elif kind == 5:
        del pieces[at]
    elif kind == 6:
        pieces[at:at] = [pieces[at]] * rng.choice((1, 2, 30))
    elif kind == 7:
        other = rng.randrange(len(pieces))
        pieces[at], pieces[other] = pieces[other], pieces[at]
    elif kind == 8:
        pieces[at] = Piece(rng.choice(_NAMES[container.kind]), pieces[at].content)
    else:
        pieces.insert(at, _foreign_piece(container.kind, partner, rng))
    return container.join(pieces)


def _foreign_piece(kind: str, partner: bytes, rng: random.Random) -> Piece:
    other = split(partner)
    if other is not None and other.kind == kind and other.pieces:
        return rng.choice(other.pieces)
    return Piece(rng.choice(_NAMES[kind]), rng.randbytes(rng.choice((0, 1, 4, 8, 13, 26))))


def _respoiled(content: bytes, partner: bytes, rng: random.Random) -> bytes:
    """What is deflated inside is spoiled there, half of the time."""
    start = content.find(b"\x78") if rng.random() < 0.5 else -1
    if 0 <= start < 90:
        try:
            unfolded = zlib.decompressobj().decompress(content[start:], _MOST_UNFOLDED_BYTES)
        except zlib.error:
            return spoiled(content, partner, rng)
        return content[:start] + zlib.compress(spoiled(unfolded, partner, rng), 1)
    return spoiled(content, partner, rng)
