"""What can be given as an image -> the bytes that are sent. Knows nothing of HTTP.

Files are sent as they are. Pixels become an uncompressed TIFF, which costs nothing to make or to read; an image of
Pillow becomes a PNG, which keeps its transparency, palette, color profile and orientation.
"""

import ctypes
import io
import math
import struct
import sys
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from mixer_client.errors import BadInput


class Array(Protocol):
    """Pixels, uint8 [H, W, 3], RGB, or [H, W] or [H, W, 1], grey; 0..255. NumPy's arrays are such."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


Image: TypeAlias = str | PathLike[str] | bytes | bytearray | memoryview | Array

_FAST = 1  # of zlib's levels: the others take several times as long, and are not much smaller
_SHORT, _LONG = 3, 4
_ORIENTATION = 0x0112
_HEAD_BYTES = 8 + 2 + 10 * 12 + 4 + 6  # of a TIFF: header, one directory of ten entries, three numbers of bits


class Payload(NamedTuple):
    """The bytes of an image file, and its type."""

    body: bytes
    content_type: str


def payload_of(image: Image) -> Payload:
    """The file to send for an image. Raises BadInput; OSError where a file cannot be read."""
    if isinstance(image, bytes | bytearray | memoryview):
        return Payload(_held(image), "application/octet-stream")
    if isinstance(image, str | PathLike):
        return Payload(_content_of(image), "application/octet-stream")
    if _is_pillows(image):
        return Payload(_png(image), "image/png")
    if hasattr(image, "__array_interface__"):
        return Payload(_tiff_of(image), "image/tiff")
    raise BadInput(
        f"The image is of type {type(image).__name__}; expected a path, the bytes of a file, an image of Pillow, or "
        "an array uint8 [H, W, 3], [H, W] or [H, W, 1]."
    )


def tiff(height: int, width: int, channels: int, pixels: bytes) -> bytes:
    """A TIFF file of uint8 [H, W, channels], 3 (RGB) or 1 (grey), row by row, without compression."""
    bits = _HEAD_BYTES - 6  # where the numbers of bits stand
    entries = [
        (256, _LONG, 1, width),
        (257, _LONG, 1, height),
        (258, _SHORT, channels, bits if channels == 3 else 8),
        (259, _SHORT, 1, 1),  # no compression
        (262, _SHORT, 1, 2 if channels == 3 else 1),  # RGB, or black is 0
        (273, _LONG, 1, _HEAD_BYTES),  # one strip
        (277, _SHORT, 1, channels),
        (278, _LONG, 1, height),
        (279, _LONG, 1, len(pixels)),
        (284, _SHORT, 1, 1),  # the channels of a pixel side by side
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + directory + struct.pack("<IHHH", 0, 8, 8, 8)
    return head + pixels


def _held(file: bytes | bytearray | memoryview) -> bytes:
    try:
        return bytes(file)
    except ValueError as error:  # of memory that has been released
        raise BadInput(f"The bytes of the file cannot be read: {error}; expected ones that can.") from error


def _content_of(path: str | PathLike[str]) -> bytes:
    if isinstance(path, str) and path.startswith(("http://", "https://")):
        raise BadInput(f"{path!r} is a URL; expected a path, or the bytes of the file that is there.")
    try:
        return Path(path).read_bytes()
    except ValueError as error:  # a zero byte in it
        raise BadInput(f"{path!r} is no path: {error}; expected one.") from error


def _is_pillows(image: object) -> bool:
    """Whoever has an image of Pillow has imported it."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def _png(image: Any) -> bytes:
    file = io.BytesIO()
    try:
        image.save(file, "PNG", compress_level=_FAST, exif=_orientation(image))
    except Exception as error:  # the file behind it may be broken in any way that Pillow knows
        raise BadInput(
            f"The image of Pillow, of mode {image.mode}, cannot be written as a PNG: {error}; expected one that "
            'can, as image.convert("RGB").'
        ) from error
    return file.getvalue()


def _orientation(image: Any) -> Any:
    """The Exif to write: of all tags the one that counts; none where they cannot be read, as the service does."""
    try:
        exif = image.getexif()
        kept, orientation = type(exif)(), exif.get(_ORIENTATION)
    except Exception:  # noqa: BLE001 -- cameras write what breaks Pillow, and the pixels are whole all the same
        return None
    if orientation not in range(2, 9):
        return None
    kept[_ORIENTATION] = orientation
    return kept


def _tiff_of(image: Array) -> bytes:
    interface = image.__array_interface__
    kind, shape = interface.get("typestr"), tuple(interface.get("shape", ()))
    channels = shape[2] if len(shape) == 3 else 1
    if kind != "|u1" or len(shape) not in (2, 3) or channels not in (1, 3) or not math.prod(shape):
        raise BadInput(
            f"The array is {kind} {list(shape)}; expected uint8 (|u1) [H, W, 3], [H, W] or [H, W, 1], 0 to 255."
        )
    return tiff(shape[0], shape[1], channels, _bytes_of(image, interface))


def _bytes_of(image: Array, interface: dict[str, Any]) -> bytes:
    """Row by row, whatever its order in memory."""
    with suppress(TypeError):  # most have the buffer protocol, too
        return memoryview(image).tobytes()  # type: ignore[arg-type]
    held = interface.get("data")
    if interface.get("strides") is not None or held is None:
        raise BadInput("The array does not lie row by row in memory; expected one that does.")
    if isinstance(held, tuple):
        return ctypes.string_at(held[0], math.prod(interface["shape"]))
    return bytes(held)
