"""How a picture becomes a square by its fit's mode alone: cropped, padded or stretched. Knows Pillow and numpy."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.framing import central_box, image_of, values_of
from model.spec import Fit, Interpolation

Pixels = NDArray[np.uint8]


def is_fitted(pixels: Pixels, image_size: int, fit: Fit) -> bool:
    """Whether the mode leaves a picture as it is."""
    return pixels.shape[0] == pixels.shape[1] == image_size and (fit.mode != "crop" or fit.crop_percentage == 1.0)


def resized(pixels: Pixels, image_size: int, fit: Fit, interpolation: Interpolation) -> Pixels:
    """What the mode makes of uint8 [H, W, C]: uint8 [image_size, image_size, C]."""
    height, width, channels = pixels.shape
    resample = Image.Resampling[interpolation.upper()]
    image = image_of(pixels)
    if fit.mode == "pad":
        square = padded(image, image_size, resample)
    else:
        box = (0.0, 0.0, width, height) if fit.mode == "stretch" else central_box(width, height, fit.crop_percentage)
        square = image.resize((image_size, image_size), resample, box)
    return values_of(square).reshape(image_size, image_size, channels)


def padded(image: Image.Image, image_size: int, resample: Image.Resampling) -> Image.Image:
    """The whole picture in a square of that side, in the middle; what it leaves has the color of its border."""
    scale = image_size / max(image.size)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    content = image.resize(inner, resample)
    if content.size == (image_size, image_size):
        return content
    canvas = Image.new(image.mode, (image_size, image_size), _border_color(content))
    canvas.paste(content, ((image_size - inner[0]) // 2, (image_size - inner[1]) // 2))
    return canvas


def _border_color(image: Image.Image) -> tuple[int, ...] | int:
    pixels = np.asarray(image)
    edges = (pixels[0], pixels[-1]) if image.width > image.height else (pixels[:, 0], pixels[:, -1])
    color = np.median(np.concatenate(edges), axis=0).round().astype(int)
    return int(color) if color.ndim == 0 else tuple(int(value) for value in color)
