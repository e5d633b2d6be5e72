"""A picture as a file: its bytes as they came, or pixels as a PNG. Decodes nothing."""

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # the command line reads kept pictures without loading an engine
    from app.inference.classifier import Picture

_MAGIC = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
)
PNG, UNKNOWN = "png", "bin"
ENDINGS = frozenset(ending for _, ending in _MAGIC) | {"webp", UNKNOWN}


def size_of(picture: "Picture") -> int:
    """How many bytes it takes until it is written."""
    return len(picture) if isinstance(picture, bytes) else picture.nbytes


def held(picture: "Picture") -> "Picture":
    """The picture, apart from the request that it may be a part of."""
    return picture if isinstance(picture, bytes) or picture.base is None else picture.copy()


def as_file(picture: "Picture") -> tuple[bytes, str]:
    """Its bytes, and the ending of their file: by what they begin with, never by what the client calls them."""
    if isinstance(picture, bytes):
        return picture, _ending(picture)
    file = io.BytesIO()
    pixels = np.ascontiguousarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue(), PNG


def _ending(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    return next((ending for magic, ending in _MAGIC if content.startswith(magic)), UNKNOWN)
