"""Named tensors of the Open Inference Protocol <-> bytes, numbers and pictures. Knows neither JSON nor gRPC.

Integers and floats are little-endian, row by row; of BYTES, each element has its length before it, in 4 bytes.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from app.errors import BadParameter, TooManyBytes
from app.inference.classifier import Picture
from model.preprocess import Pixels

BYTES = "BYTES"
_PIXELS: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}
_LENGTH_BYTES = 4
_MOST_DIMENSIONS = 8
MOST_PICTURES = 4096  # what the settings allow at most: more are not even taken apart, which takes a microsecond each
_LAYOUTS = "[H, W, C], [C, H, W], [N, H, W, C] or [N, C, H, W], with 1 or 3 channels"


class Tensor(NamedTuple):
    """One of a request or an answer. `content`: its bytes, the elements of BYTES, or its numbers, in any nesting."""

    name: str
    datatype: str
    shape: Sequence[int]
    content: bytes | memoryview | Sequence[Any]


def pictures_of(tensor: Tensor) -> list[Picture]:
    """The pictures of an input: BYTES [N] or [N, 1] of files, or pixels UINT8 or FP32, grey or RGB from 0 to 255.

    Raises: BadParameter, TooManyBytes, with nothing made that is larger than what came.
    """
    count = num_elements(tensor)
    if tensor.datatype == BYTES:
        return list(_files(tensor, count))
    if tensor.datatype not in _PIXELS:
        raise BadParameter(f"{_named(tensor)} is {tensor.datatype[:16]!r}; expected {BYTES}, UINT8 or FP32.")
    return list(_pixels(tensor, count))


def num_elements(tensor: Tensor) -> int:
    """How many elements its shape says. Raises BadParameter for a shape that no tensor can have."""
    shape = tensor.shape
    if len(shape) > _MOST_DIMENSIONS or not all(isinstance(one, int) and 0 <= one < 1 << 63 for one in shape):
        shown = str(list(shape[:_MOST_DIMENSIONS]))[:80]
        raise BadParameter(f"{_named(tensor)} has the shape {shown}; expected up to {_MOST_DIMENSIONS} whole numbers.")
    return math.prod(shape)


def expect_few(tensor: Tensor, count: int) -> None:
    """No more pictures than any service takes. Raises TooManyBytes."""
    if count > MOST_PICTURES:
        raise TooManyBytes(f"{_named(tensor)} has {count} pictures; expected at most {MOST_PICTURES}.")


def joined(elements: Iterable[bytes]) -> bytes:
    """The elements of a BYTES tensor, each with its length before it."""
    return b"".join(chain.from_iterable((len(one).to_bytes(_LENGTH_BYTES, "little"), one) for one in elements))


def _files(tensor: Tensor, count: int) -> Iterator[bytes]:
    shape = tensor.shape
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        raise BadParameter(f"{_named(tensor)} has the shape {list(shape)}; expected [N] or [N, 1], a file each.")
    if isinstance(tensor.content, bytes | memoryview):
        if count > 1 and len(tensor.content) < count * _LENGTH_BYTES:
            raise BadParameter(
                f"{_named(tensor)} has {len(tensor.content)} bytes; "
                f"expected {count} elements, each with its length in {_LENGTH_BYTES} bytes before it."
            )
        expect_few(tensor, count)
        yield from _split(tensor, tensor.content, count)
        return
    elements = list(tensor.content)
    _expect_count(tensor, len(elements), count)
    expect_few(tensor, count)
    yield from elements


def _split(tensor: Tensor, content: bytes | memoryview, count: int) -> Iterator[bytes]:
    """The elements in bytes. One alone without its length is taken, too: load generators send it so."""
    at, number = 0, 0
    while at < len(content):
        length = int.from_bytes(content[at : at + _LENGTH_BYTES], "little")
        end = at + _LENGTH_BYTES + length
        if end > len(content) or at + _LENGTH_BYTES > len(content):
            if count == 1 and number == 0:
                yield bytes(content)
                return
            raise BadParameter(
                f"{_named(tensor)} says that element {number} has {length} bytes; "
                f"{max(0, len(content) - at - _LENGTH_BYTES)} are left of its {len(content)}."
            )
        if number == count:
            raise BadParameter(f"{_named(tensor)} has more elements than the {count} of its shape.")
        yield bytes(content[at + _LENGTH_BYTES : end])
        at, number = end, number + 1
    _expect_count(tensor, number, count)


def _pixels(tensor: Tensor, count: int) -> Iterator[Pixels]:
    values = _values(tensor, count)
    shape = [1, *tensor.shape] if len(tensor.shape) == 3 else list(tensor.shape)
    if len(shape) != 4 or 0 in shape or not (shape[3] in (1, 3) or shape[1] in (1, 3)):
        raise BadParameter(f"{_named(tensor)} has the shape {list(tensor.shape)}; expected {_LAYOUTS}.")
    expect_few(tensor, shape[0])
    images = values.reshape(shape)
    for image in images if shape[3] in (1, 3) else images.transpose(0, 2, 3, 1):
        yield np.ascontiguousarray(_whole(tensor, image))


def _values(tensor: Tensor, count: int) -> NDArray[Any]:
    kind = _PIXELS[tensor.datatype]
    if isinstance(tensor.content, bytes | memoryview):
        if len(tensor.content) != count * kind.itemsize:
            raise BadParameter(
                f"{_named(tensor)} has {len(tensor.content)} bytes; "
                f"expected {count * kind.itemsize} for {list(tensor.shape)} of {tensor.datatype}."
            )
        return np.frombuffer(tensor.content, kind)
    numbers = list(flat(tensor.content))
    _expect_count(tensor, len(numbers), count)
    if not set(map(type, numbers)) <= {int, float}:
        raise BadParameter(f"{_named(tensor)} has something else than numbers in its data.")
    try:
        return np.array(numbers, np.float64)
    except OverflowError:
        raise BadParameter(f"{_named(tensor)} has a number of more digits than any pixel; expected 0 to 255.") from None


def _whole(tensor: Tensor, image: NDArray[Any]) -> Pixels:
    """Numbers from 0 to 255 as bytes."""
    if image.dtype == np.uint8:
        return cast(Pixels, image)
    least, most = float(image.min()), float(image.max())
    if not (least >= 0 and most <= 255):
        raise BadParameter(
            f"{_named(tensor)} has values from {least:g} to {most:g}; "
            "expected pixels from 0 to 255: the model normalizes them itself."
        )
    whole = np.rint(image)
    if most <= 1 and not (whole == image).all():
        raise BadParameter(
            f"{_named(tensor)} has fractions and nothing above {most:g}, as if divided by 255; "
            "expected pixels from 0 to 255."
        )
    pixels: Pixels = whole.astype(np.uint8)
    return pixels


def flat(nested: Sequence[Any]) -> Iterator[Any]:
    """What lists of lists hold, in order; no deeper than a tensor can be."""
    level: Iterable[Any] = nested
    for _ in range(_MOST_DIMENSIONS):
        level = list(level)
        if not any(isinstance(one, list) for one in level):
            break
        level = chain.from_iterable(one if isinstance(one, list) else (one,) for one in level)
    return iter(level)


def _expect_count(tensor: Tensor, found: int, expected: int) -> None:
    if found != expected:
        raise BadParameter(
            f"{_named(tensor)} has {found} elements; expected {expected}, as its shape {list(tensor.shape)} says."
        )


def _named(tensor: Tensor) -> str:
    return f"The input {tensor.name[:64]!r}"
