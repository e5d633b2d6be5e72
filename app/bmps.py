"""A BMP's run lengths -> its pixels, run by run and never pixel by pixel. Knows nothing of headers or palettes."""

from app.errors import BadPicture

_MAX_RUNS = 500_000  # each takes a third of a microsecond in Python
_HALVES = bytes.maketrans(b"0123456789abcdef", bytes(range(16)))
_END_OF_LINE, _END_OF_PICTURE, _DELTA = 0, 1, 2


def unrolled(payload: bytes, at: int, size: tuple[int, int], *, halves: bool) -> bytes:
    """One byte for each pixel, uint8 [H * W], rows in the order of the file; what no run says is left out at the end.

    payload: the file, whose runs begin at `at`. size: (W, H). halves: four bits for a pixel in the file, not eight.

    Raises: BadPicture where the runs are too many.
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
        elif value == _END_OF_PICTURE:
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
        raise BadPicture(f"The BMP has more than {_MAX_RUNS} runs, the most expected.")
    return bytes(pixels)


def _repeated(value: int, count: int, halves: bool) -> bytes:
    return (bytes((value >> 4, value & 15)) * ((count + 1) // 2))[:count] if halves else bytes((value,)) * count
