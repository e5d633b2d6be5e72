"""Cut the photographs that come with scikit-image and scikit-learn into class folders to learn from.

    python examples/photographs.py FOLDER

FOLDER/materials gets the crops of five grey photographs, FOLDER/scenes those of eight coloured ones; each has train/,
val/ and test/. The three come from different parts of a photograph (left, middle, right), so no pixel of a test picture
has been trained on. Needs: pip install scikit-image scikit-learn
"""

import argparse
import io
from pathlib import Path

import numpy as np
import skimage
import sklearn
from numpy.typing import NDArray
from PIL import Image

MATERIALS = {
    "brick": "brick.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "print": "page.png",
}
SCENES = {
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "flower": "flower.jpg",
    "motorcycle": "motorcycle_left.png",
    "palace": "china.jpg",
    "portrait": "astronaut.png",
    "stars": "hubble_deep_field.jpg",
    "tissue": "ihc.png",
}
PARTS = {"train": (0.0, 0.6, 150), "val": (0.6, 0.8, 40), "test": (0.8, 1.0, 40)}  # from, to, how many crops
SIDE = 72  # pixels of a crop


def photograph(name: str) -> Image.Image:
    """One of the two packages' own pictures."""
    folders = (Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images")
    return Image.open(next(folder / name for folder in folders if (folder / name).exists())).convert("RGB")


def crops(pixels: NDArray[np.uint8], count: int, generator: np.random.Generator) -> list[Image.Image]:
    """Squares of SIDE pixels from anywhere in uint8 [H, W, 3]."""
    height, width, _ = pixels.shape
    tops = generator.integers(0, height - SIDE, count, endpoint=True)
    lefts = generator.integers(0, width - SIDE, count, endpoint=True)
    return [
        Image.fromarray(pixels[top : top + SIDE, left : left + SIDE]) for top, left in zip(tops, lefts, strict=True)
    ]


def write(folder: Path, classes: dict[str, str]) -> int:
    """Write every class's crops below `folder`; returns how many there are."""
    total = 0
    for label, name in classes.items():
        generator = np.random.default_rng(list(label.encode()))
        image = photograph(name)
        image = image.resize((640, round(640 * image.height / image.width)))
        pixels = np.asarray(image)
        for part, (start, stop, count) in PARTS.items():
            (folder / part / label).mkdir(parents=True, exist_ok=True)
            strip = pixels[:, round(start * 640) : round(stop * 640)]
            for index, crop in enumerate(crops(strip, count, generator)):
                file = io.BytesIO()
                crop.save(file, "JPEG", quality=90)
                (folder / part / label / f"{index:03}.jpg").write_bytes(file.getvalue())
            total += count
    return total


def main() -> None:
    """Write both folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    for name, classes in (("materials", MATERIALS), ("scenes", SCENES)):
        print(f"{folder / name}: {write(folder / name, classes)} crops of {len(classes)} classes")


if __name__ == "__main__":
    main()
