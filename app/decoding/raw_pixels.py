"""Pixels that come as such, in no file -> those that a model takes. Knows nothing of formats."""

from PIL import Image

from app.errors import BadImage, TooManyPixels
from model.preprocess import Pixels, to_pixels


def with_channels(pixels: Pixels, channels: int, max_pixels: int) -> Pixels:
    """uint8 [H, W, 1 or 3], grey or RGB -> uint8 [H, W, channels], as if they came as a picture.

    Raises: BadImage, TooManyPixels.
    """
    height, width, given = pixels.shape
    if not height or not width or given not in (1, 3):
        raise BadImage(f"The pixels are {height} x {width} x {given}; expected at least 1 x 1, with 1 or 3 channels.")
    if height * width > max_pixels:
        raise TooManyPixels(f"The picture has {width} x {height} pixels; expected at most {max_pixels} in all.")
    if given == channels:
        return pixels
    return to_pixels(Image.fromarray(pixels[:, :, 0] if given == 1 else pixels), channels)
