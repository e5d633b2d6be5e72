"""An opened picture -> pixels -> a square -> patches: the only definition, shared by training and service.

Knows Pillow and numpy, nothing of files, limits, torch or HTTP. `patchify` also takes torch tensors, because it only
reshapes.
"""

import math
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model import color_profiles, fitting, framing, ground, samples, tilt
from model.framing import Region, central_box, image_of, values_of
from model.spec import Fit, Interpolation, ModelSpec, Tilt

Pixels = NDArray[np.uint8]
View = framing.View
Array = TypeVar("Array")

_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa")
_ORIENTATION = 0x0112  # the EXIF tag; what undoes each of its values:
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTERS = tuple(turn for value, turn in _TO_UPRIGHT.items() if value >= 5)
_ORIENTATION_SOURCES = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")  # in Image.info, beside TIFF tags
_MARGIN = 2  # by how much a thing in a frame of its own may be enlarged before its pixels are too few
_LARGEST_TURNED, _LEAST_TURNED, _TURNED = 8, 2, 512  # see _most_turned
_HALF_A_TURN = 180  # degrees; an angle that is no smaller says nothing
_BACKDROP = "white"  # the background of transparent pictures on most pages and in most viewers


def to_pixels(image: Image.Image, channels: int) -> Pixels:
    """Decode an opened picture as it is meant to be seen.

    EXIF orientation is applied, transparency laid over white, 16-bit and float pictures scaled to 8 bits, palettes and
    CMYK resolved, and colors of an embedded profile converted to sRGB.

    Returns: uint8 [H, W, channels]; channels 1 is grey, 3 is RGB; values in 0..255.
    Raises: OSError, ValueError, SyntaxError (Pillow's own) where the file is broken or its colors are not supported.
    """
    samples.load(image)
    upright = _upright(image)
    if (profile := image.info.get("icc_profile")) is not None:
        upright = color_profiles.to_srgb(upright, profile)
    if upright.mode in _ALPHA_MODES or "transparency" in upright.info:
        upright = _over_backdrop(upright)
    if upright.mode not in ("L", "RGB"):
        upright = upright.convert("RGB" if upright.mode != "1" else "L")  # some modes have no direct conversion to grey
    mode = "L" if channels == 1 else "RGB"
    flat = upright if upright.mode == mode else upright.convert(mode)
    return values_of(flat).reshape(flat.height, flat.width, channels)


def to_square(pixels: Pixels, image_size: int, fit: Fit, interpolation: Interpolation) -> Pixels:
    """Fit uint8 [H, W, C] to uint8 [image_size, image_size, C] under the fit policy.

    An array that has this size already is returned itself.
    """
    square, found = _square(pixels, image_size, fit, interpolation)
    if found is None or fit.tilt is None:
        return square
    degrees = _turned_by(square, fit.tilt)
    if not degrees:
        return square
    straight = framing.straightened(pixels, degrees, found, _most_turned(image_size))
    return _square(straight, image_size, fit, interpolation)[0]


def to_view(pixels: Pixels, view: View, image_size: int, fit: Fit, interpolation: Interpolation) -> Pixels:
    """A part of the square that `to_square` makes, as uint8 [image_size, image_size, C]: cut before it is resized.

    Light and dark are exchanged where they are in the whole square.
    """
    if fit.background == "black":
        return _view_of_square(pixels, view, image_size, fit, interpolation)
    height, width, channels = pixels.shape
    resample = Image.Resampling[interpolation.upper()]
    image = image_of(pixels)
    frame = (0.0, 0.0, float(width), float(height))
    if fit.mode == "pad":
        image = fitting.padded(image, max(image.size), resample)
        frame = (0.0, 0.0, float(image.width), float(image.height))
    elif fit.mode == "crop":
        frame = central_box(width, height, fit.crop_percentage)
    part = image.resize((image_size, image_size), resample, _within(frame, view))
    fitted = values_of(part).reshape(image_size, image_size, channels)
    if fit.background == "any":
        return fitted
    is_light = ground.is_light(fitting.resized(pixels, image_size, fit, interpolation))
    return 255 - fitted if is_light else fitted


def patchify(pixels: Array, patch_size: int) -> Array:
    """Cut [..., H, W, C] into [..., S, P*P*C]: patches in raster order, elements in row, column, channel order.

    A numpy array or a torch tensor of any dtype; H and W must be multiples of patch_size.
    """
    array = cast(Any, pixels)
    *lead, height, width, channels = array.shape
    rows, columns = height // patch_size, width // patch_size
    cut = array.reshape(*lead, rows, patch_size, columns, patch_size, channels)
    cut = cut.swapaxes(-4, -3)  # ... rows columns P P C
    return cast(Array, cut.reshape(*lead, rows * columns, patch_size * patch_size * channels))


def unpatchify(patches: Pixels, patch_size: int) -> Pixels:
    """What `patchify` makes [..., S, P*P*C] of, where it is square: [..., H, W, C]."""
    *lead, count, values = patches.shape
    side, channels = math.isqrt(count), values // patch_size**2
    cut = patches.reshape(*lead, side, side, patch_size, patch_size, channels)  # ... rows columns P P C
    return cut.swapaxes(-4, -3).reshape(*lead, side * patch_size, side * patch_size, channels)


def seen_region(pixels: Pixels, spec: ModelSpec, width: int, height: int) -> tuple[Region, float]:
    """What of an upright picture the square shows, and by how many degrees, counterclockwise, its thing is turned.

    pixels: uint8 [H, W, C] of any size, of an upload of `width` and `height`. The region: left, top, right, bottom in
    pixels of the upload, after that was turned back by these degrees around its middle, which stays where it is. It
    reaches beyond the picture where that is padded.
    """
    fit = spec.fit
    if fit.frame == "picture":
        return framing.shown_region(width, height, fit), 0.0
    square, found = _square(pixels, spec.image_size, fit, spec.interpolation)
    degrees = 0.0 if fit.tilt is None else _turned_by(square, fit.tilt)
    if not degrees or found is None:
        return _region(pixels, spec, width, height), 0.0
    straight = framing.straightened(pixels, degrees, found, _most_turned(spec.image_size))
    scale = max(width, height) / min(max(pixels.shape[:2]), _most_turned(spec.image_size))
    all_width, all_height = straight.shape[1] * scale, straight.shape[0] * scale
    left, top, right, bottom = _region(straight, spec, all_width, all_height)
    across, down = (all_width - width) / 2, (all_height - height) / 2
    return (left - across, top - down, right - across, bottom - down), degrees


def is_on_its_side(image: Image.Image) -> bool:
    """Whether an opened picture is meant to be seen turned by a quarter. Its pixels need not be loaded."""
    return _turn(image) in _QUARTERS


def to_patches(pixels: Pixels, spec: ModelSpec) -> Pixels:
    """What the service does to one decoded picture: uint8 [H, W, C] -> uint8 [S, P*P*C]."""
    return patchify(to_square(pixels, spec.image_size, spec.fit, spec.interpolation), spec.patch_size)


def smallest_useful_side(spec: ModelSpec) -> int:
    """The shorter side, in pixels, below which a picture of ordinary shape would have to be enlarged."""
    percentage = spec.fit.crop_percentage if spec.fit.mode == "crop" else 1.0
    margin = _MARGIN if spec.fit.frame == "thing" else 1
    return math.ceil(margin * spec.image_size / percentage)


def _square(
    pixels: Pixels, image_size: int, fit: Fit, interpolation: Interpolation
) -> tuple[Pixels, ground.Ground | None]:
    """The square, with its thing as it stands in the picture, and the ground where the fit asks for it."""
    fitted = (
        pixels
        if fitting.is_fitted(pixels, image_size, fit)
        else fitting.resized(pixels, image_size, fit, interpolation)
    )
    if fit.background == "any":
        return fitted, None
    found = ground.of(fitted)
    if fit.background == "dark":
        return 255 - fitted if found.inverted else fitted, found
    square = ground.leveled(fitted, found) if found.inverted or any(found.levels) else fitted
    if fit.frame == "picture":
        return square, found
    frame = framing.frame_of_thing(pixels, square, found, fit, interpolation)
    return square if frame is None else framing.cut(pixels, frame, found, image_size, interpolation), found


def _region(pixels: Pixels, spec: ModelSpec, width: float, height: float) -> Region:
    """What the square shows, with the thing as it stands, in pixels of a picture of `width` and `height`."""
    fit = spec.fit
    fitted = fitting.resized(pixels, spec.image_size, fit, spec.interpolation)
    found = ground.of(fitted)
    frame = framing.frame_of_thing(pixels, ground.leveled(fitted, found), found, fit, spec.interpolation)
    if frame is None:
        return framing.shown_region(width, height, fit)
    across, down = width / pixels.shape[1], height / pixels.shape[0]
    return frame[0] * across, frame[1] * down, frame[2] * across, frame[3] * down


def _most_turned(image_size: int) -> int:
    """The longer side, in pixels, that a picture is reduced to before it is turned.

    8 times the square's, as a thing may be a small part of it, or 512, as every pixel costs; at least twice.
    """
    return max(_LEAST_TURNED * image_size, min(_LARGEST_TURNED * image_size, _TURNED))


def _turned_by(square: Pixels, limits: Tilt) -> float:
    """By how many degrees the thing is turned, counterclockwise; 0 where it is left as it is, or nothing is known."""
    degrees = float(tilt.degrees_of(square[np.newaxis], limits)[0])
    return degrees if limits.beyond < abs(degrees) < _HALF_A_TURN else 0.0


def _view_of_square(pixels: Pixels, view: View, image_size: int, fit: Fit, interpolation: Interpolation) -> Pixels:
    """A view of a square that is made as large as the view needs, as its frame is known only then."""
    side = math.ceil(image_size / max(view[2] - view[0], view[3] - view[1]))
    square = to_square(pixels, side, fit, interpolation)
    box = cast(View, tuple(side * share for share in view))
    part = image_of(square).resize((image_size, image_size), Image.Resampling[interpolation.upper()], box)
    return values_of(part).reshape(image_size, image_size, pixels.shape[2])


def _within(frame: tuple[float, float, float, float], view: View) -> tuple[float, float, float, float]:
    """A view of a frame, in the frame's own coordinates."""
    left, top, right, bottom = frame
    width, height = right - left, bottom - top
    return (
        left + view[0] * width,
        top + view[1] * height,
        min(right, left + view[2] * width),
        min(bottom, top + view[3] * height),
    )


def _upright(image: Image.Image) -> Image.Image:
    """The loaded picture as it stands, of 8 bits a sample."""
    turn = _turn(image)
    shallow = samples.to_8_bits(image) if samples.is_deep(image) else image
    return shallow if turn is None else shallow.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    if image.info.keys().isdisjoint(_ORIENTATION_SOURCES) and not hasattr(image, "tag_v2"):
        return None  # most pictures on the web; Pillow's checks cost more than the rest of a small one
    try:
        return _TO_UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 -- broken metadata raises almost anything; the pixels are none the worse for it
        return None


def _over_backdrop(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, _BACKDROP), image)
