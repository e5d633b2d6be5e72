"""An explanation laid over its picture, as a PNG. Knows nothing of how the values were found."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.explanation.explainer import Region
from model.preprocess import Pixels

LONGEST_SIDE = 768  # pixels of the overlay; a smaller picture is enlarged, up to this many times:
_MOST_ENLARGED = 16
_FOR, _AGAINST = (255, 94, 0), (0, 96, 255)  # what the label rests on, and what speaks against it
_COMPRESS_LEVEL = 2  # of zlib: half of the time, and a tenth more bytes
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
    shown = Image.blend(image, image.convert("L").convert("RGB"), 0.5)  # pale
    for sign, color in ((1, _FOR), (-1, _AGAINST)):
        opacity = Image.fromarray((heat * (sign * _MOST_OPAQUE * 255)).clip(0, 255).astype(np.uint8))
        shown.paste(color, (0, 0, *size), opacity)
    buffer = io.BytesIO()
    shown.save(buffer, "PNG", compress_level=_COMPRESS_LEVEL)
    return buffer.getvalue()


def _heat(values: NDArray[np.float64], region: Region, size: tuple[int, int], scale: float) -> NDArray[np.float32]:
    """The values over the picture, float32 [H, W] in -1 to 1, smooth from patch to patch; 0 outside the region.

    scale: pixels of the overlay in one of the upload.
    """
    scaled = (values / max(float(np.abs(values).max()), _LEAST)).astype(np.float32)
    left, top, right, bottom = (round(side * scale) for side in region[:4])
    smooth = Image.fromarray(scaled).resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR)
    margin = max(size) if region.turned else 0  # what is turned into the picture lies beside it before
    canvas = Image.new("F", (size[0] + 2 * margin, size[1] + 2 * margin), 0.0)
    canvas.paste(smooth, (left + margin, top + margin))
    if region.turned:
        canvas = canvas.rotate(region.turned, Image.Resampling.BILINEAR)
    return np.asarray(canvas.crop((margin, margin, margin + size[0], margin + size[1])), dtype=np.float32)
