"""Which part of a picture its square shows, and how that part is cut out.

Knows Pillow and numpy, and of a background what `ground` says of it.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model import ground
from model.spec import Fit, Interpolation

Pixels = NDArray[np.uint8]
Region = tuple[float, float, float, float]
"""A part of a picture, or more than it: left, top, right, bottom in its pixels."""
View = tuple[float, float, float, float]
"""A part of a square: left, top, right, bottom, as shares of its side."""


def shown_region(width: float, height: float, fit: Fit) -> Region:
    """What the square shows by its fit's mode alone; of `pad` it reaches beyond the picture."""
    if fit.mode == "stretch":
        return 0.0, 0.0, float(width), float(height)
    if fit.mode == "crop":
        return central_box(width, height, fit.crop_percentage)
    side = max(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def frame_of_thing(
    pixels: Pixels, square: Pixels, found: ground.Ground, fit: Fit, interpolation: Interpolation
) -> Region | None:
    """The square around the thing, in pixels of the picture, which it may reach beyond; None where there is no other.

    square: what the fit makes of the picture, before black. Looked for there, and once more in what was found, as a
    pixel of the square may be many of the picture.
    """
    height, width, _ = pixels.shape
    box = ground.box_of_thing(square)
    if box is None:
        return None
    image_size, frame = len(square), shown_region(width, height, fit)
    rough = _around(_inside(frame, box), 1 + 2 / (image_size * max(box[2] - box[0], box[3] - box[1])))
    near = ground.extent(cut(pixels, rough, found, image_size, interpolation))
    return rough if near is None else _around(_inside(rough, near))


def _around(region: Region, margin: float = 1) -> Region:
    """The square in the middle of whose longer side, `margin` times as long, a region lies."""
    left, top, right, bottom = region
    side = max(right - left, bottom - top) * margin
    left, top = (left + right - side) / 2, (top + bottom - side) / 2
    return left, top, left + side, top + side


def cut(pixels: Pixels, frame: Region, found: ground.Ground, image_size: int, interpolation: Interpolation) -> Pixels:
    """A square frame of the picture as uint8 [image_size, image_size, C]; what is beyond the picture is black."""
    height, width, channels = pixels.shape
    scale = image_size / (frame[2] - frame[0])
    inside = max(0.0, frame[0]), max(0.0, frame[1]), min(width, frame[2]), min(height, frame[3])
    left, top = round((inside[0] - frame[0]) * scale), round((inside[1] - frame[1]) * scale)
    right = max(left + 1, round((inside[2] - frame[0]) * scale))
    bottom = max(top + 1, round((inside[3] - frame[1]) * scale))
    part = image_of(pixels).resize((right - left, bottom - top), Image.Resampling[interpolation.upper()], inside)
    square = np.zeros((image_size, image_size, channels), np.uint8)
    thing = values_of(part).reshape(bottom - top, right - left, channels)
    square[top:bottom, left:right] = ground.leveled(thing, found)[: image_size - top, : image_size - left]
    return square


def straightened(pixels: Pixels, degrees: float, found: ground.Ground, most: int) -> Pixels:
    """A picture whose thing is turned by so many degrees, turned back around its middle, all of it and more.

    most: of its longer side, in pixels; a larger picture is reduced to that before. What comes into sight has the
    color of the ground.
    """
    image = image_of(pixels)
    if (longer := max(image.size)) > most:
        size = (max(1, round(side * most / longer)) for side in image.size)
        image = image.resize(tuple(size), Image.Resampling.BOX)  # type: ignore[arg-type]
    color = tuple(255 - level if found.inverted else level for level in found.levels)
    turned = image.rotate(
        -degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=color if len(color) > 1 else color[0]
    )
    return values_of(turned).reshape(turned.height, turned.width, pixels.shape[2])


def _inside(region: Region, box: View) -> Region:
    """A box, as shares of a region, in the region's own coordinates."""
    left, top, right, bottom = region
    width, height = right - left, bottom - top
    return left + box[0] * width, top + box[1] * height, left + box[2] * width, top + box[3] * height


def central_box(width: float, height: float, percentage: float) -> Region:
    """The square in the middle, so much of the shorter side."""
    side = min(width, height) * percentage
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def image_of(pixels: Pixels) -> Image.Image:
    """uint8 [H, W, C] as Pillow has it."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def values_of(image: Image.Image) -> Pixels:
    """np.asarray for mode L or RGB, flat and faster."""
    return np.frombuffer(image.tobytes(), np.uint8)
