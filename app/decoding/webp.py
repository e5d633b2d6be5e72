"""How many Huffman codes a lossless WebP makes the decoder build, read from its bits before it is decoded.

libwebp builds five tables for each group of codes, and a file of 300 KB may have 65,536 groups of 20 bits each. Follows
the WebP Lossless Bitstream Specification up to where those groups are known; decodes no pixel of the picture.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from app.errors import BadImage

SMALL_BYTES = 10_000  # so many have no groups for more than 25 MB

_MAX_BLOCKS = 100_000  # of the small pictures that say how blocks are coded, each of which takes a microsecond
_GROUP_BYTES = 600  # besides its tables, of 4 bytes an entry:
_FEWEST_ENTRIES, _ENTRIES_PER_COLOR = 2954, 2  # with a cache of so many colours, at most
_MAX_CHUNKS = 1000

_CHUNK_BYTES = 8
_FRAME_AT = 16  # where the first chunk of a frame of an animation begins, in its own chunk
_CODE_LENGTHS = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)  # in the order of the file
_REPEATS = {16: (2, 3), 17: (3, 3), 18: (7, 11)}  # of a length: extra bits, and the fewest
_LITERALS, _LENGTHS, _DISTANCES = 256, 24, 40
_MOST_BITS = 15
_PREDICTOR, _COLOR, _GREEN, _PALETTE = range(4)

_Code = list[tuple[int, int]]  # for the next bits: the symbol that they begin with, and its bits


def padded(payload: bytes) -> bytes:
    """A WebP that lacks only the byte that makes its last chunk even, with it; any other as it is."""
    lacks_one = int.from_bytes(payload[4:8], "little") + _CHUNK_BYTES == len(payload) + 1
    return payload + b"\0" if lacks_one and len(payload) % 2 else payload


class _Bits:
    """Little-endian bits, zeros beyond the end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def take(self, count: int) -> int:
        value = self.ahead() & ((1 << count) - 1)
        self.at += count
        return value

    def ahead(self) -> int:
        """At least 32 of them."""
        first = self.at >> 3
        return int.from_bytes(self._content[first : first + 5], "little") >> (self.at & 7)

    def symbol(self, code: _Code) -> int:
        symbol, length = code[self.ahead() & (len(code) - 1)]
        self.at += length
        return symbol


class _Image(NamedTuple):
    """A lossless stream, from its transforms on, of a picture of that size."""

    bits: _Bits
    width: int
    height: int


def tables_bytes(payload: bytes) -> int:
    """Memory, in bytes, for the codes of the first frame of a WebP; 0 where nothing is lossless.

    Raises: BadImage where the bits are none, or the blocks that differ in their codes are too many.
    """
    return max((_tables_bytes(image) for image in _lossless(payload)), default=0)


def _tables_bytes(image: _Image) -> int:
    bits, width, height = image
    blocks = 0
    seen = set()
    while bits.take(1):
        transform = bits.take(2)
        if transform in seen:
            raise BadImage(f"The lossless WebP has transform {transform} twice; expected each once.")
        seen.add(transform)
        if transform in (_PREDICTOR, _COLOR):
            columns, rows = _blocks(bits, width, height)
            blocks = _expect_few(blocks + columns * rows)
            _groups(bits, columns * rows)
        elif transform == _PALETTE:
            colors = bits.take(8) + 1
            _groups(bits, colors)
            width = -(-width // (8 if colors <= 2 else 4 if colors <= 4 else 2 if colors <= 16 else 1))
    cache = 1 << bits.take(4) if bits.take(1) else 0
    if not bits.take(1):
        return 0
    columns, rows = _blocks(bits, width, height)
    _expect_few(blocks + columns * rows)
    groups = len(_groups(bits, columns * rows))
    return groups * (_GROUP_BYTES + 4 * (_FEWEST_ENTRIES + _ENTRIES_PER_COLOR * cache))


def _expect_few(blocks: int) -> int:
    if blocks > _MAX_BLOCKS:
        raise BadImage(f"The lossless WebP is coded in more than {_MAX_BLOCKS} blocks, the most expected.")
    return blocks


def _blocks(bits: _Bits, width: int, height: int) -> tuple[int, int]:
    side = 1 << (bits.take(3) + 2)
    return -(-width // side), -(-height // side)


def _groups(bits: _Bits, count: int) -> set[int]:
    """Read a small picture of so many pixels. Returns: the different values of red and green, which number a group."""
    cache = 1 << bits.take(4) if bits.take(1) else 0
    sizes = (_LITERALS + _LENGTHS + cache, _LITERALS, _LITERALS, _LITERALS, _DISTANCES)
    green, red, blue, alpha, distance = (_code(bits, size) for size in sizes)
    if len(green) == len(red) == len(blue) == len(alpha) == 1 and green[0][0] < _LITERALS:
        return {red[0][0] << 8 | green[0][0]}  # one colour, in no bits
    found, left = set(), count
    while left > 0:
        symbol = bits.symbol(green)
        if symbol < _LITERALS:
            found.add(bits.symbol(red) << 8 | symbol)
            bits.symbol(blue)
            bits.symbol(alpha)
            left -= 1
        elif symbol < _LITERALS + _LENGTHS:
            left -= _prefixed(bits, symbol - _LITERALS)
            _prefixed(bits, bits.symbol(distance))
        else:
            found.add(0)  # a colour that was there, or else none
            left -= 1
    return found


def _prefixed(bits: _Bits, prefix: int) -> int:
    """A length or a distance: some are in the prefix, others in bits behind it."""
    if prefix < 4:
        return prefix + 1
    extra = (prefix - 2) >> 1
    return ((2 + (prefix & 1)) << extra) + bits.take(extra) + 1


def _code(bits: _Bits, size: int) -> _Code:
    """One code of an alphabet of that size."""
    lengths = [0] * size
    if bits.take(1):
        second = bits.take(1)
        symbols = [bits.take(8 if bits.take(1) else 1), *([bits.take(8)] if second else [])]
        for symbol in symbols:
            if symbol >= size:
                raise BadImage(f"The lossless WebP has symbol {symbol} in an alphabet of {size}.")
            lengths[symbol] = 1
        return _table(lengths)
    of_lengths = [0] * len(_CODE_LENGTHS)
    for symbol in _CODE_LENGTHS[: bits.take(4) + 4]:
        of_lengths[symbol] = bits.take(3)
    code = _table(of_lengths)
    most = 2 + bits.take(2 + 2 * bits.take(3)) if bits.take(1) else size
    at, before = 0, 8
    while at < size and most > 0:
        most -= 1
        length = bits.symbol(code)
        if length <= _MOST_BITS:
            lengths[at] = length
            before = length or before
            at += 1
            continue
        extra, fewest = _REPEATS[length]
        repeats = bits.take(extra) + fewest
        if at + repeats > size:
            raise BadImage(f"The lossless WebP has {at + repeats} lengths for an alphabet of {size}.")
        if length == _MOST_BITS + 1:
            lengths[at : at + repeats] = [before] * repeats
        at += repeats
    return _table(lengths)


def _table(lengths: Sequence[int]) -> _Code:
    """The canonical code of those lengths, by all the bits that may come next. Raises BadImage if it has gaps."""
    used = sorted((length, symbol) for symbol, length in enumerate(lengths) if length)
    if len(used) == 1:
        return [(used[0][1], 0)]
    most = used[-1][0] if used else 0
    table: _Code = [(0, 0)] * (1 << most)
    code = before = filled = 0
    for length, symbol in used:
        code <<= length - before
        before = length
        if code >= 1 << length:
            break
        mirrored = int(f"{code:0{length}b}"[::-1], 2)
        table[mirrored :: 1 << length] = [(symbol, length)] * (1 << (most - length))
        filled += 1 << (most - length)
        code += 1
    if not used or filled != len(table) or code != 1 << before:
        raise BadImage("The lossless WebP has a Huffman code that is not complete.")
    return table


def _lossless(payload: bytes) -> Iterator[_Image]:
    """Every lossless stream of the first frame: its pixels, or what is transparent."""
    width = height = 0
    at = 12
    for _ in range(_MAX_CHUNKS):
        name, size = payload[at : at + 4], int.from_bytes(payload[at + 4 : at + 8], "little")
        content = payload[at + _CHUNK_BYTES : at + _CHUNK_BYTES + size]
        if name == b"VP8X":
            width, height = _side(content, 4), _side(content, 7)
        elif name == b"ANMF":
            width, height = _side(content, 6), _side(content, 9)
            at += _CHUNK_BYTES + _FRAME_AT
            continue
        elif name == b"ALPH" and content[:1] and content[0] & 3 == 1:
            yield _Image(_Bits(content[1:]), width, height)
        elif name == b"VP8L":
            bits = _Bits(content[1:])
            width, height = bits.take(14) + 1, bits.take(14) + 1
            bits.take(4)  # whether it is transparent, and the version
            yield _Image(bits, width, height)
            return
        elif name in (b"VP8 ", b""):
            return
        at += _CHUNK_BYTES + size + size % 2
    raise BadImage(f"The WebP has more than {_MAX_CHUNKS} chunks before its first picture, the most expected.")


def _side(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 3], "little") + 1
