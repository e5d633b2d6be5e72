"""The meaning of a picture's samples where Pillow does not tell: depths, white for 0, transparent values.

Knows Pillow's modes, and the tags and tiles of the files it has opened; nothing of models, limits or HTTP. A picture of
8 bits a sample, without transparency, passes through untouched.
"""

from functools import reduce
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, TiffImagePlugin

_BITS, _PHOTOMETRIC, _PLANES, _FORMAT = 258, 262, 284, 339  # TIFF tags
_WHITE_IS_ZERO, _SEPARATE_PLANES, _SIGNED = 0, 2, 2
_MOST_OF_8_BITS, _MOST_OF_16_BITS, _MOST_OF_24_BITS, _MOST_OF_32_BITS = 255, 2**16 - 1, 2**24 - 1, 2**32 - 1


_DEEP = frozenset(("I", "F", "La", "I;16", "I;16L", "I;16B", "I;16N"))


class UnsupportedSamples(ValueError):
    """Samples of a kind that would be shown wrongly."""


def load(image: Image.Image) -> None:
    """Load an opened picture, and make its transparency what the file says.

    Raises: OSError, ValueError, SyntaxError (Pillow's own) where the file is broken; UnsupportedSamples.
    """
    tiles: list[Any] | None = getattr(image, "tile", None)
    kind = image.format if tiles else None  # without tiles it is loaded, or was never a file
    if tiles and kind == "PNG" and "transparency" in image.info:
        _load_transparent(image, str(tiles[0].args))
    elif kind == "TIFF" and isinstance(image, TiffImagePlugin.TiffImageFile):
        _expect_planes_of_8_bits(image)
    image.load()
    if kind == "BMP" and image.mode == "RGBA" and image.getchannel(3).getextrema() == (0, 0):
        image.putalpha(_MOST_OF_8_BITS)  # writers that know no alpha leave it at 0


def is_deep(image: Image.Image) -> bool:
    """Whether the samples of a loaded picture differ from its mode, or have more than 8 bits."""
    mode = image.mode
    if mode == "L":
        return image.format == "TIFF" and _tag(image, _FORMAT, 1) == _SIGNED
    return mode in _DEEP


def to_8_bits(image: Image.Image) -> Image.Image:
    """A loaded deep picture in mode L, or LA where one of its values is transparent.

    Integers are on the scale of their depth. Those of 32 bits, and signed ones, are on that of 8 bits where it has them
    all, of 32 bits where they are beyond 24, and of 16 otherwise. Floats are fractions where none is above 1, and 8-bit
    values otherwise. Below zero is black.
    """
    if image.mode == "La":
        return image.convert("LA")
    if image.mode == "L":
        return image.point([*range(128), *[0] * 128])  # signed
    values = _values(image)
    scaled = np.nan_to_num(values / (_most(image, values) / _MOST_OF_8_BITS))
    levels = scaled.clip(0, _MOST_OF_8_BITS).round().astype(np.uint8)
    if _tag(image, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO:
        levels = _MOST_OF_8_BITS - levels
    grey = Image.fromarray(levels)
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray((values != transparent) * np.uint8(_MOST_OF_8_BITS)))
    return grey


def _values(image: Image.Image) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # numpy would warn of a signalling NaN, in the service's log
        if image.mode == "I" and _tag(image, _BITS, 0) == 32 and _tag(image, _FORMAT, 1) != _SIGNED:
            return np.asarray(image, np.int32).view(np.uint32).astype(np.float64)
        return np.asarray(image, dtype=np.float64)


def _most(image: Image.Image, values: NDArray[np.float64]) -> float:
    """The value of full light, or full ink."""
    highest = np.nan_to_num(values).max(initial=0)
    if image.mode == "F":
        return 1 if highest <= 1 else _MOST_OF_8_BITS
    if image.mode == "I":
        if highest > _MOST_OF_24_BITS:
            return _MOST_OF_32_BITS
        return _MOST_OF_8_BITS if highest <= _MOST_OF_8_BITS else _MOST_OF_16_BITS
    return float((1 << _tag(image, _BITS, 16)) - 1)


def _tag(image: Image.Image, tag: int, default: int) -> int:
    """The first value of a TIFF tag; the default for all other pictures."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return default
    value = image.tag_v2.get(tag, default)
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else default


def _expect_planes_of_8_bits(image: TiffImagePlugin.TiffImageFile) -> None:
    """Let Pillow read planes of 16 bits, which it takes for 8. Raises UnsupportedSamples for other depths."""
    if _tag(image, _PLANES, 1) != _SEPARATE_PLANES or image.tile[0].codec_name != "raw" or _tag(image, _BITS, 1) == 8:
        return
    bits = _tag(image, _BITS, 1)
    if bits != 16 or image.mode != "RGB":
        raise UnsupportedSamples(f"The TIFF has planes of {bits} bits in mode {image.mode}.")
    order = "L" if image.tag_v2.prefix == b"II" else "B"
    image.tile = [
        tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:])) if isinstance(tile.args, tuple) else tile
        for tile in image.tile
    ]


def _load_transparent(image: Any, raw_mode: str) -> None:
    """Load a PNG with one transparent value, which the file gives at its own depth, and at that depth alone."""
    value = image.info["transparency"]
    if raw_mode in ("L;2", "L;4"):
        most = (1 << int(raw_mode[-1])) - 1
        image.info["transparency"] = (value & most) * (_MOST_OF_8_BITS // most)
    elif raw_mode == "L":
        image.info["transparency"] = value & _MOST_OF_8_BITS
    elif raw_mode == "RGB":
        image.info["transparency"] = tuple(level & _MOST_OF_8_BITS for level in value)
    elif raw_mode == "RGB;16B":
        low = _low_bytes(image)
        image.load()
        del image.info["transparency"]
        matches = [
            _where(half.getchannel(channel), level >> shift & _MOST_OF_8_BITS)
            for half, shift in ((image, 8), (low, 0))
            for channel, level in enumerate(value)
        ]
        image.putalpha(ImageChops.invert(reduce(ImageChops.darker, matches)))


def _where(band: Image.Image, level: int) -> Image.Image:
    """255 where a band is at that level, and 0 elsewhere."""
    return band.point([_MOST_OF_8_BITS if at == level else 0 for at in range(256)])


def _low_bytes(image: Any) -> Image.Image:
    """RGB: the low bytes of a PNG of 16 bits, which Pillow drops. Decodes the file once more."""
    at = image.fp.tell()
    image.fp.seek(0)
    again: Any = Image.open(image.fp, formats=("PNG",))
    again.tile = [tile._replace(args="RGB;16L") for tile in again.tile]
    again.load()
    image.fp.seek(at)
    return cast(Image.Image, again)
