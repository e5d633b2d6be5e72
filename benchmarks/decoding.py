"""What decoding JPEGs at reduced scale brings, and what it does to answers.

    python -m benchmarks.decoding [--images 204] [--rounds 5] [--seconds 0.5] [--sizes 4032x3024 1600x1200]

Answers: a Mixer of 224 pixels that has learned photographs (those of scikit-image and scikit-learn, 17 classes; trained
once, in minutes, and kept in benchmarks/cache), and the default model. They are asked about parts of the photographs
that training has not seen, and about the example pictures, enlarged under finer detail of their own, so that there is
some at every scale, as JPEGs of several qualities, subsamplings and orders. A margin is how many times the useful side
the shorter side keeps at least; full decoding is what all are compared with.

Speed: JPEG to patches at every margin, and with a run of S/16 in int8 behind it, on one core, in turn, round by round.
Needs: scripts/install cpu,train,export; pip install scikit-image scikit-learn. Prints Markdown.
"""

import argparse
import io
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import skimage
import sklearn
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile

from app.decoding.cost_checks import DecodeBudget
from app.decoding.decoder import MARGIN, DecodeLimits, decode
from app.engine.engine import Engine, EngineOptions, open_engine
from app.engine.runners import Patches
from app.system.quota import Quota
from benchmarks.agreement import Agreement, agreement, probabilities
from benchmarks.serving.bundles import random_bundle
from cli.bench.samples import scene
from cli.bench.stopwatch import Candidate, Measured, measure, ratio
from model.preprocess import smallest_useful_side, to_patches
from model.spec import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "benchmarks" / "cache"
PHOTOGRAPHS = {
    "brick": "brick.png", "camera": "camera.png", "cat": "chelsea.png", "coffee": "coffee.png", "coins": "coins.png",
    "flower": "flower.jpg", "grass": "grass.png", "gravel": "gravel.png", "moon": "moon.png",
    "motorcycle": "motorcycle_left.png", "palace": "china.jpg", "portrait": "astronaut.png", "print": "page.png",
    "retina": "retina.jpg", "rocket": "rocket.jpg", "stars": "hubble_deep_field.jpg", "tissue": "ihc.png",
}  # fmt: skip
SEEN = 0.7  # of a photograph's width; the rest is for validation and for the answers here
SIDES = (80, 180)  # pixels of the crops that are learned
NETWORK = "--image-size 224 --patch-size 16 --hidden-dim 96 --num-blocks 6 --tokens-mlp-dim 48 --channels-mlp-dim 384"
TRAINING = "--epochs 12 --batch-size 48"
MARGINS = (1.0, 1.25, 1.5, 2.0, 4.0)
FULL = math.inf
MOST_SIDE = 65_536  # no JPEG is larger
SIZES = ("600x450", "1024x768", "1600x1200", "2389x1792", "4032x3024")
TIMED = ("500x375", "1600x1200", "4032x3024")
LIMITS = DecodeLimits(
    1 << 26, 50_000_000, DecodeBudget(Quota(1 << 30))
)  # full decoding needs more than the service gives


# --- a classifier that has learned photographs ---


def photograph(name: str) -> NDArray[np.uint8]:
    """One of the two packages' own pictures, uint8 [H, W, 3]."""
    folders = (Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images")
    with Image.open(next(folder / name for folder in folders if (folder / name).exists())) as image:
        return np.asarray(image.convert("RGB"))


def write_crops(folder: Path) -> None:
    """Squares of many sizes from every photograph: train/ from the part that is seen, val/ from the rest."""
    for label, name in PHOTOGRAPHS.items():
        pixels, generator = photograph(name), np.random.default_rng(list(label.encode()))
        split = int(SEEN * pixels.shape[1])
        for part, strip, count in (("train", pixels[:, :split], 120), ("val", pixels[:, split:], 30)):
            (folder / part / label).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                side = int(generator.integers(SIDES[0], min(SIDES[1], *strip.shape[:2]), endpoint=True))
                top, left = (int(generator.integers(0, most - side, endpoint=True)) for most in strip.shape[:2])
                crop = Image.fromarray(strip[top : top + side, left : left + side])
                crop.save(folder / part / label / f"{index:03}.jpg", quality=92)


def learned(cache: Path) -> Path:
    """The bundle of the classifier of photographs, trained where it is not kept yet."""
    bundle, images = cache / "photographs" / "bundle", cache / "photographs" / "pictures"
    if not (bundle / "int8.onnx").is_file():
        write_crops(images)
        checkpoint = bundle.with_name("checkpoint")
        mixer("train", str(images), "--out", str(checkpoint), *NETWORK.split(), *TRAINING.split())
        mixer("export", str(checkpoint), str(bundle), "--data", str(images))
    return bundle


def mixer(*arguments: str) -> None:
    """Run a command of the project's, its words on stderr."""
    subprocess.run([sys.executable, "-m", "cli", *arguments], cwd=ROOT, check=True, stdout=sys.stderr)


# --- large pictures with detail at every scale ---


def enlarged(
    whole: NDArray[np.uint8], least: float, size: tuple[int, int], generator: np.random.Generator
) -> Image.Image:
    """A part of uint8 [H, W, 3], at least that share of what fits, at `size`; over it the whole as ever finer tiles."""
    height, width = whole.shape[:2]
    share = generator.uniform(least, 1)
    across = max(1, round(share * min(width, height * size[0] / size[1])))
    down = max(1, round(across * size[1] / size[0]))
    top, left = (int(generator.integers(0, most, endpoint=True)) for most in (height - down, width - across))
    image = Image.fromarray(whole[top : top + down, left : left + across]).resize(size, Image.Resampling.BICUBIC)
    factor = size[0] // across // 2
    while factor >= 1:
        image = ImageChops.add(image, tiles(detail(whole), factor, size), offset=-128)
        factor //= 2
    return image


def detail(whole: NDArray[np.uint8]) -> Image.Image:
    """What is fine in uint8 [H, W, 3], at two fifths of its strength, around 128."""
    image = Image.fromarray(whole)
    coarse = image.resize((max(1, image.width // 8), max(1, image.height // 8)), Image.Resampling.BOX)
    fine = np.asarray(image, np.float32) - np.asarray(coarse.resize(image.size, Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray((128.5 + 0.4 * fine).clip(0, 255).astype(np.uint8))


def tiles(image: Image.Image, factor: int, size: tuple[int, int]) -> Image.Image:
    """The picture at `factor` times its size, side by side until `size` is full."""
    tile = image.resize((factor * image.width, factor * image.height), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", size)
    for top in range(0, size[1], tile.height):
        for left in range(0, size[0], tile.width):
            canvas.paste(tile, (left, top))
    return canvas


def file_of(image: Image.Image, index: int) -> bytes:
    """A JPEG: five qualities, three subsamplings, every seventh progressive."""
    file = io.BytesIO()
    quality, subsampling = (60, 75, 85, 90, 95)[index % 5], index % 3
    image.save(file, "JPEG", quality=quality, subsampling=subsampling, progressive=index % 7 == 0)
    return file.getvalue()


def files(wholes: Sequence[NDArray[np.uint8]], least: float, size: tuple[int, int], count: int) -> Iterator[bytes]:
    """`count` different files, as many of every whole."""
    for index in range(count):
        generator = np.random.default_rng([index, *size])
        yield file_of(enlarged(wholes[index % len(wholes)], least, size, generator), index)


def unseen() -> list[NDArray[np.uint8]]:
    """The part of every photograph that was not learned."""
    return [pixels[:, int(SEEN * pixels.shape[1]) :] for pixels in map(photograph, PHOTOGRAPHS.values())]


def clothes() -> list[NDArray[np.uint8]]:
    """The example pictures and the tests' drawings."""
    paths = [
        *sorted((ROOT / "examples" / "fashion-mnist").glob("*.png")),
        *sorted((ROOT / "tests" / "drawings").glob("*.png")),
    ]
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


# --- what is compared ---


def patches_of(payload: bytes, spec: ModelSpec, margin: float) -> Patches:
    """What the service makes of a file, were its margin another."""
    side = MOST_SIDE if margin == FULL else math.ceil(smallest_useful_side(spec) * margin / MARGIN)
    return to_patches(decode(payload, spec.channels, side, LIMITS), spec)


def agreements(engines: dict[str, Engine], payloads: Iterator[bytes]) -> dict[tuple[str, float], Agreement]:
    """Every graph of a classifier at every margin against full decoding, on the same files."""
    spec = next(iter(engines.values())).spec
    answers: dict[tuple[str, float], list[NDArray[np.float64]]] = {
        (name, margin): [] for name in engines for margin in (FULL, *MARGINS)
    }
    for payload in payloads:
        for margin in (FULL, *MARGINS):
            patches = patches_of(payload, spec, margin)
            for name, engine in engines.items():
                answers[name, margin].append(probabilities(engine, patches))
    stacked = {key: np.stack(found) for key, found in answers.items()}
    return {key: agreement(stacked[key[0], FULL], found) for key, found in stacked.items() if key[1] != FULL}


def timed(engine: Engine, payloads: Sequence[bytes], rounds: int, seconds: float) -> dict[tuple[float, bool], Measured]:
    """Pictures a second on one core, by margin, without a run of the engine and with one."""

    def candidate(margin: float, run: bool) -> Candidate[tuple[float, bool]]:
        def work() -> float:
            for payload in payloads:
                patches = patches_of(payload, engine.spec, margin)
                if run:
                    engine.run([patches])
            return len(payloads)

        return Candidate((margin, run), work)

    return measure(
        [candidate(margin, run) for run in (False, True) for margin in (FULL, *MARGINS)],
        rounds=rounds,
        seconds=seconds,
    )


def size_of(text: str) -> tuple[int, int]:
    """Width and height of "4032x3024"."""
    width, height = map(int, text.split("x"))
    return width, height


def print_answers(
    engines: dict[str, Engine], wholes: list[NDArray[np.uint8]], least: float, options: argparse.Namespace
) -> None:
    """One row for every precision, size and margin."""
    print(
        "\n| model | size | margin | same top-1 | largest change of a probability | mean |\n|---|---|---|---|---|---|"
    )
    for size in options.sizes:
        found = agreements(engines, files(wholes, least, size_of(size), options.images))
        for (name, margin), one in found.items():
            print(f"| {name} | {size} | {margin:g} | {one.top1:.2%} | {one.largest:.3f} | {one.mean:.4f} |", flush=True)


def print_speed(engine: Engine, options: argparse.Namespace) -> None:
    """One row for every size and margin."""
    print("\n| size | margin | decoding: images/s (spread) | against full | with a run, images/s | against full |")
    print("|---|---|---|---|---|---|")
    for size in TIMED:
        payloads = [file_of(scene(*size_of(size), 3, seed), 8 + 15 * seed) for seed in range(2)]
        found = timed(engine, payloads, options.rounds, options.seconds)
        for margin in (FULL, *MARGINS):
            row = [f"| {size} | {'full' if margin == FULL else f'{margin:g}'}"]
            for run in (False, True):
                one = found[margin, run]
                row.append(f"{one.rate:.1f} ({one.spread:.0%}) | {ratio(one, found[FULL, run]):.2f}")
            print(" | ".join(row) + " |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=204)
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--only", choices=["answers", "speed"])
    parser.add_argument("--cache", type=Path, default=CACHE)
    options = parser.parse_args()
    ImageFile.MAXBLOCK = 1 << 26  # or Pillow cannot write large progressive files
    if options.only != "speed":
        print_answers(opened("photographs", learned(options.cache)), unseen(), 0.5, options)
        print_answers(opened("default model", ROOT / "bundles" / "fashion-mnist"), clothes(), 0.85, options)
    if options.only != "answers":
        print_speed(opened("S/16", random_bundle("S/16", options.cache))["S/16, int8"], options)


def opened(name: str, bundle: Path) -> dict[str, Engine]:
    """A bundle's graphs on one thread each."""
    return {
        f"{name}, {precision}": open_engine(
            EngineOptions(bundle, "cpu", precision, instances=1, intra_op_threads=1, max_batch_size=1)
        )
        for precision in ("fp32", "int8")
    }


if __name__ == "__main__":
    main()
