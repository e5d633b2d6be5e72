"""A BMP's run lengths -> its pixels, run by run and never pixel by pixel; and what its header says that is not shown.

Knows nothing of palettes.
"""

import struct

from app.errors import BadImage

_MAX_RUNS = 500_000  # each takes a third of a microsecond in Python
_HALVES = bytes.maketrans(b"0123456789abcdef", bytes(range(16)))
_HEADER_AT, _CORE_BYTES, _SHORTEST_WITH_ALPHA, _BITFIELDS = 14, 12, 56, 3
_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
_END_OF_LINE, _END_OF_IMAGE, _DELTA = 0, 1, 2


def unrolled(payload: bytes, at: int, size: tuple[int, int], *, halves: bool) -> bytes:
    """One byte for each pixel, uint8 [H * W], rows in the order of the file; what no run says is left out at the end.

    payload: the file, whose runs begin at `at`. size: (W, H). halves: four bits for a pixel in the file, not eight.

    Raises: BadImage where the runs are too many.
    """
    width, most = size[0], size[0] * size[1]
    pixels, column = bytearray(), 0
    for _ in range(_MAX_RUNS):
        if len(pixels) >= most or at + 1 >= len(payload):
            break
        count, value = payload[at], payload[at + 1]
        at += 2
        if count:
            count = min(count, max(0, width - column))
            pixels += _repeated(value, count, halves)
            column += count
        elif value == _END_OF_LINE:
            pixels += bytes(-len(pixels) % width)
            column = 0
        elif value == _END_OF_IMAGE:
            break
        elif value == _DELTA:
            if at + 1 >= len(payload):
                break
            right, up = payload[at], payload[at + 1]
            at += 2
            pixels += bytes(min(most - len(pixels), right + up * width))
            column = len(pixels) % width
        else:
            count = min(most - len(pixels), value)
            length = (count + 1) // 2 if halves else count
            literal = payload[at : at + length]
            pixels += literal.hex().encode().translate(_HALVES)[:count] if halves else literal
            at += length + (at + length) % 2
            column += value
    else:
        raise BadImage(f"The BMP has more than {_MAX_RUNS} runs, the most expected.")
    return bytes(pixels)


def kind(payload: bytes) -> str | None:
    """How a BMP stores a pixel, in words; None where its header is cut off or of no known size."""
    size = int.from_bytes(payload[_HEADER_AT : _HEADER_AT + 4], "little")
    if size not in _HEADER_SIZES or len(payload) < _HEADER_AT + size:
        return None
    bits, coding, masks = _header(payload)
    if coding != _BITFIELDS:
        return f"{bits} bits a pixel, in coding {coding}"
    return f"{bits} bits a pixel, with masks {', '.join(f'{mask:x}' for mask in masks)}"


def has_opacity_beside_15_bits(payload: bytes) -> bool:
    """Whether a pixel of a BMP is 16 bits, and some of them say how opaque it is: Pillow passes over those."""
    bits, coding, masks = _header(payload)
    return bits == 16 and coding == _BITFIELDS and any(masks[3:])


def _header(payload: bytes) -> tuple[int, int, tuple[int, ...]]:
    """Bits of a pixel, coding, and masks where the coding has them; all 0 behind the end of the file."""
    head = payload[_HEADER_AT : _HEADER_AT + _SHORTEST_WITH_ALPHA].ljust(_SHORTEST_WITH_ALPHA, b"\0")
    (header_bytes,) = struct.unpack_from("<I", head)
    if header_bytes == _CORE_BYTES:
        return struct.unpack_from("<H", head, 10)[0], 0, ()
    bits, coding = struct.unpack_from("<HI", head, 14)
    masks = struct.unpack_from("<4I" if header_bytes >= _SHORTEST_WITH_ALPHA else "<3I", head, 40)
    return bits, coding, masks


def _repeated(value: int, count: int, halves: bool) -> bytes:
    return (bytes((value >> 4, value & 15)) * ((count + 1) // 2))[:count] if halves else bytes((value,)) * count
