"""An explanation laid over its picture, as a PNG. Knows nothing of how the values were found."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.explanation.explainer import Region
from model.preprocess import Pixels

LONGEST_SIDE = 768  # pixels of the overlay; a smaller picture is enlarged, up to this many times:
_MOST_ENLARGED = 16
_FOR = np.array([255, 94, 0])  # where the label rests on
_AGAINST = np.array([0, 96, 255])  # what speaks for other labels
_MOST_OPAQUE = 0.75
_LEAST = 1e-9  # of the largest value, below which nothing is shown


def overlay_png(pixels: Pixels, values: NDArray[np.float64], region: Region) -> bytes:
    """The picture in paler colors, orange where the label rests on and blue where others do, the stronger the more.

    pixels: uint8 [H, W, 3], of whatever size, of what the region's upload shows. values: float64 [rows, columns] on
    the region. A patch as strong as the strongest is three quarters opaque.
    """
    height, width = pixels.shape[:2]
    scale = min(LONGEST_SIDE / max(width, height), _MOST_ENLARGED)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    heat = _heat(values, region, size, max(width, height) * scale / max(region.width, region.height))
    grey = np.asarray(image.convert("L"), dtype=np.float64)[:, :, np.newaxis]  # H W 1
    pale = 0.5 * np.asarray(image, dtype=np.float64) + 0.5 * grey  # H W 3
    opacity = _MOST_OPAQUE * np.abs(heat)[:, :, np.newaxis]
    color = np.where(heat[:, :, np.newaxis] > 0, _FOR, _AGAINST)
    shown = (1 - opacity) * pale + opacity * color
    buffer = io.BytesIO()
    Image.fromarray(shown.round().clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _heat(values: NDArray[np.float64], region: Region, size: tuple[int, int], scale: float) -> NDArray[np.float64]:
    """The values over the picture, float64 [H, W] in -1 to 1, smooth from patch to patch; 0 outside the region.

    scale: pixels of the overlay in one of the upload.
    """
    scaled = (values / max(float(np.abs(values).max()), _LEAST)).astype(np.float32)
    left, top, right, bottom = (round(side * scale) for side in region[:4])
    smooth = Image.fromarray(scaled).resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR)
    canvas = Image.new("F", size, 0.0)
    canvas.paste(smooth, (left, top))
    return np.asarray(canvas, dtype=np.float64).clip(-1, 1)
