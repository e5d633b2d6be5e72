"""Draw the example pictures: pieces of clothing laid on a floor, lit from one side, as somebody would photograph them.

    python examples/render.py FOLDER

Outlines, folds, weave and floor are computed; nothing in them comes from a photograph. Knows no network.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT, FINER = 360, 480, 2  # pixels of a picture, and how much finer it is drawn
Outline = list[tuple[float, float]]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Garment:
    """The right half of an outline in units of the picture's height, lines across it, its color and its floor."""

    half: Outline
    lines: tuple[Outline, ...]
    color: tuple[int, int, int]
    floor: str
    stripes: int = 0
    opening: Outline = ()  # type: ignore[assignment]  # what is seen inside the collar


GARMENTS = {
    "t-shirt": Garment(
        [(0.07, -0.30), (0.14, -0.315), (0.34, -0.19), (0.28, -0.08),
         (0.20, -0.12), (0.205, 0.10), (0.215, 0.32), (0, 0.335)],
        ([(0.20, -0.12), (0.17, -0.27)], [(0, 0.305), (0.212, 0.29)], [(0.262, -0.10), (0.325, -0.21)]),
        (176, 58, 52), "wood", opening=[(0.085, -0.30), (0.06, -0.255), (0, -0.235)],
    ),
    "long-sleeve": Garment(
        [(0.055, -0.34), (0.12, -0.34), (0.19, -0.27), (0.265, -0.02), (0.325, 0.25), (0.27, 0.27),
         (0.205, 0.06), (0.155, -0.10), (0.15, 0.12), (0.155, 0.31), (0, 0.325)],
        ([(0.155, -0.10), (0.13, -0.29)], [(0, 0.29), (0.154, 0.275)], [(0.262, 0.235), (0.317, 0.215)]),
        (62, 92, 84), "carpet", opening=[(0.062, -0.345), (0.045, -0.305), (0, -0.29)],
    ),
    "pants": Garment(
        [(0.0, -0.40), (0.125, -0.40), (0.165, -0.16), (0.19, 0.40),
         (0.075, 0.41), (0.045, 0.0), (0.012, -0.14), (0, -0.15)],
        ([(0, -0.365), (0.13, -0.365)], [(0, -0.365), (0, -0.16)], [(0.13, -0.35), (0.085, -0.29), (0.06, -0.36)],
         [(0.18, 0.375), (0.078, 0.385)]),
        (58, 76, 112), "tiles",
    ),
    "shorts": Garment(
        [(0.0, -0.20), (0.16, -0.20), (0.20, -0.05), (0.27, 0.14), (0.075, 0.185), (0.012, 0.045), (0, 0.04)],
        ([(0, -0.16), (0.168, -0.16)], [(0, -0.16), (0, 0.035)], [(0.262, 0.115), (0.069, 0.158)],
         [(0.17, -0.155), (0.12, -0.04)]),
        (150, 134, 98), "wood",
    ),
    "skirt": Garment(
        [(0.0, -0.26), (0.12, -0.26), (0.17, -0.10), (0.27, 0.27), (0, 0.305)],
        ([(0, -0.225), (0.124, -0.225)], [(0.05, -0.22), (0.11, 0.29)], [(0.095, -0.22), (0.195, 0.28)]),
        (44, 44, 50), "wood",
    ),
    "dress": Garment(
        [(0.045, -0.40), (0.085, -0.405), (0.105, -0.27), (0.09, -0.11), (0.17, 0.12), (0.25, 0.38), (0, 0.405)],
        ([(0, -0.11), (0.09, -0.11)], [(0.03, -0.10), (0.09, 0.395)], [(0.07, -0.10), (0.175, 0.385)]),
        (196, 96, 118), "sheet", opening=[(0.05, -0.40), (0.04, -0.33), (0, -0.31)],
    ),
}  # fmt: skip


def smooth(points: Outline, closed: bool, per_span: int = 12) -> Outline:
    """A curve through the points (Catmull-Rom), a little tighter than a circle's."""
    corners = np.array(points)
    count = len(corners)
    spans = count if closed else count - 1
    at = np.linspace(0, 1, per_span, endpoint=False)[:, None]
    parts = []
    for index in range(spans):
        before, start, end, after = (
            corners[(index + step) % count] if closed else corners[min(max(index + step, 0), count - 1)]
            for step in (-1, 0, 1, 2)
        )
        into, out = (end - before) * 0.28, (after - start) * 0.28
        parts.append(
            (2 * at**3 - 3 * at**2 + 1) * start + (at**3 - 2 * at**2 + at) * into
            + (-2 * at**3 + 3 * at**2) * end + (at**3 - at**2) * out
        )  # fmt: skip
    return [(float(x), float(y)) for x, y in np.concatenate(parts)] + ([] if closed else [points[-1]])


def noise(rng: np.random.Generator, height: int, width: int, cells: tuple[float, float]) -> Array:
    """Smooth noise in about -1..1 with so many cells down and across."""
    small = rng.normal(size=(max(2, round(cells[0])), max(2, round(cells[1]))))
    image = Image.fromarray(small.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float64)


def floor_of(kind: str, rng: np.random.Generator, height: int, width: int) -> Array:
    """Floor [H, W, 3] in 0..255: planks, tiles, a carpet or a sheet."""
    rows, columns = np.mgrid[0:height, 0:width] / height
    fine = noise(rng, height, width, (height / 2, width / 2))
    if kind == "wood":
        plank = np.floor(columns / 0.15)
        grain = noise(rng, height, width, (6, 150)) + 0.5 * noise(rng, height, width, (14, 260))
        tone = np.sin(plank * 12.9898) * 9
        seam = ((columns / 0.15) % 1 < 0.025) * 38.0
        light = 168 + tone + 7 * grain + 1.5 * fine - seam
        return light[..., None] * np.array([1.0, 0.80, 0.58])
    if kind == "tiles":
        seam = (((columns / 0.36) % 1 < 0.02) | ((rows / 0.36 + 0.3) % 1 < 0.02)) * 34.0
        light = 196 + 6 * noise(rng, height, width, (9, 9)) + 1.5 * fine - seam
        return light[..., None] * np.array([0.98, 0.96, 0.91])
    if kind == "carpet":
        light = 128 + 12 * fine + 9 * noise(rng, height, width, (110, 90)) + 5 * noise(rng, height, width, (4, 4))
        return light[..., None] * np.array([1.04, 1.0, 0.93])
    folds = 9 * noise(rng, height, width, (5, 3)) + 5 * noise(rng, height, width, (3, 11))
    return (214 + folds + 1.5 * fine)[..., None] * np.array([1.0, 0.99, 0.97])


def mask_of(outline: Outline, height: int, width: int) -> Array:
    """1 inside a closed outline around the picture's middle, 0 outside: [H, W]."""
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).polygon([(width / 2 + x * height, height / 2 + y * height) for x, y in outline], fill=255)
    return np.asarray(mask, dtype=np.float64) / 255


def blurred(values: Array, pixels: float) -> Array:
    """values [H, W] in 0..1 through a Gaussian."""
    image = Image.fromarray((values * 255).clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(pixels))
    return np.asarray(image, dtype=np.float64) / 255


def cloth_of(garment: Garment, rng: np.random.Generator, mask: Array) -> Array:
    """The garment's own light and color [H, W, 3]: rounded at its edge, folded, woven, stitched."""
    height, width = mask.shape
    shape = blurred(mask, height / 60) * 26 + noise(rng, height, width, (7, 5)) * 2.2
    shape += noise(rng, height, width, (13, 8)) * 1.6 + noise(rng, height, width, (5, 16)) * 1.8
    ridges = 1 - np.abs(noise(rng, height, width, (9, 6)))  # creases
    shape += 3.5 * ridges.clip(0.55, None)
    down, across = np.gradient(shape)
    light = 1 + 0.30 * across * (480 * FINER / height) - 0.24 * down * (480 * FINER / height)
    light *= 1 + 0.035 * noise(rng, height, width, (height / 3, width / 3))
    color = np.array(garment.color, dtype=np.float64) * np.ones((height, width, 1))
    if garment.stripes:
        band = (np.arange(height) / height * garment.stripes * 2).astype(int) % 2 == 0
        color[band] = 226
    lines = Image.new("L", (width, height), 0)
    for line in garment.lines:
        for side in (1, -1):
            path = [(width / 2 + side * x * height, height / 2 + y * height) for x, y in smooth(line, closed=False)]
            ImageDraw.Draw(lines).line(path, fill=255, width=FINER * 2)
    stitched = blurred(np.asarray(lines, dtype=np.float64) / 255, FINER * 0.8)
    return color * (light - 0.33 * stitched).clip(0.25, 1.5)[..., None]


def outline_of(garment: Garment, rng: np.random.Generator) -> Outline:
    """Both halves, each laid down a little differently."""
    left = [(-x, y) for x, y in reversed(garment.half) if x]
    corners = [(x + rng.normal(0, 0.006), y + rng.normal(0, 0.005)) for x, y in garment.half + left]
    curve = np.array(smooth(corners, closed=True))
    for axis in (0, 1):  # cloth has no straight edges
        waves = np.convolve(rng.normal(size=len(curve) + 24), np.hanning(25) / 12, "valid")
        curve[:, axis] += 0.0035 * waves[: len(curve)]
    return [(float(x), float(y)) for x, y in curve]


def render(garment: Garment, seed: int) -> Image.Image:
    """The picture of one garment."""
    rng = np.random.default_rng(seed)
    height, width = HEIGHT * FINER, WIDTH * FINER
    mask = mask_of(outline_of(garment, rng), height, width)
    shadow = np.roll(blurred(mask, height / 70), (height // 70, height // 90), (0, 1))
    floor = floor_of(garment.floor, rng, height, width) * (1 - 0.45 * shadow)[..., None]
    edge = blurred(mask, FINER * 0.7)[..., None]
    picture = floor * (1 - edge) + cloth_of(garment, rng, mask) * edge
    if garment.opening:
        left = [(-x, y) for x, y in reversed(garment.opening[:-1])]
        collar = smooth(list(garment.opening) + left, closed=False)
        inside = blurred(mask_of(collar, height, width), FINER)[..., None]
        picture = picture * (1 - inside) + np.array(garment.color) * 0.45 * inside
    rows, columns = np.mgrid[0:height, 0:width] / height
    picture *= (1.08 - 0.22 * rows + 0.05 * columns)[..., None]  # a window at the top
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8)).rotate(rng.uniform(-2, 2), Image.Resampling.BICUBIC)
    trimmed = image.crop((width * 0.04, height * 0.04, width * 0.96, height * 0.96))
    small = np.asarray(trimmed.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS), dtype=np.float64)
    return Image.fromarray((small + rng.normal(0, 2, small.shape)).clip(0, 255).astype(np.uint8))


def main(folder: Path) -> None:
    """Write one JPEG for each garment."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, garment) in enumerate(GARMENTS.items()):
        render(garment, seed).save(folder / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
