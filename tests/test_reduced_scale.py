"""Large JPEGs are decoded at reduced scale: the shipped classifier gives the answers of full decoding."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from app.decoding.decoder import DecodeLimits, decode
from app.engine.engine import Engine, EngineOptions, open_engine
from cli.bench.samples import scene
from model.preprocess import smallest_useful_side, to_patches

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parent.parent
IMAGES = [
    *sorted((ROOT / "examples" / "fashion-mnist").glob("*.png")),
    *sorted((ROOT / "tests" / "drawings").glob("*.png")),
]
VARIANTS = 10
LIMITS = DecodeLimits(1 << 22, 1_000_000)
MOST_SIDE = 65_536  # no JPEG is larger: a side that keeps all its pixels


def file_of(path: Path, variant: int, generator: np.random.Generator) -> bytes:
    """A JPEG of one of the pictures, enlarged, on fine grain: another size, quality and subsampling every time."""
    size = (int(generator.integers(120, 700)), int(generator.integers(120, 700)))
    with Image.open(path) as image:
        large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    grain = scene(200, 200, 3, variant).resize(size).point(lambda value: 96 + value // 4)
    image, file = ImageChops.add(large, grain, offset=-128), io.BytesIO()
    image.save(file, "JPEG", quality=60 + 4 * variant, subsampling=variant % 3, progressive=variant % 4 == 3)
    return file.getvalue()


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    generator = np.random.default_rng(0)
    return [file_of(path, variant, generator) for path in IMAGES for variant in range(VARIANTS)]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_reduced_scale_changes_at_most_one_answer_in_a_hundred(files: list[bytes], precision: str) -> None:
    options = EngineOptions(ROOT / "bundles" / "fashion-mnist", "cpu", precision, intra_op_threads=1, max_batch_size=1)
    engine = open_engine(options)
    reduced, full = (labels(engine, files, side) for side in (smallest_useful_side(engine.spec), MOST_SIDE))
    assert len(files) >= 200
    assert len(set(full)) >= 8, "the answers differ, so that they could change"
    assert np.mean([one == other for one, other in zip(reduced, full, strict=True)]) >= 0.99


def labels(engine: Engine, files: list[bytes], useful_side: int) -> list[int]:
    """The best label of every file, decoded for that side."""
    return [
        int(
            engine.run(
                [to_patches(decode(file, engine.spec.channels, useful_side, LIMITS), engine.spec)]
            ).logits.argmax()
        )
        for file in files
    ]
