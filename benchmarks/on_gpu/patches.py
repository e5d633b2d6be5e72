"""Pictures as patches, generated and real ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.decoding.decoder import DecodeLimits, decode
from cli.bench.samples import generated
from model.preprocess import smallest_useful_side, to_patches
from model.spec import ModelSpec

Patches = NDArray[np.uint8]  # of one picture: [S, P*P*C]
LIMITS = DecodeLimits(20 << 20, 50_000_000)


def noise(spec: ModelSpec, count: int, seed: int = 0) -> list[Patches]:
    """Patches of `count` pictures in which nothing repeats."""
    generator = np.random.default_rng(seed)
    return list(generator.integers(0, 256, (count, spec.num_patches, spec.patch_bytes), dtype=np.uint8))


def images_of(spec: ModelSpec, bundle: Path) -> list[Patches]:
    """The bundle's own held-out pictures where it has them, the examples, else generated ones; as patches."""
    paths = sorted([*(bundle / "checkpoint" / "pictures").glob("*.png"), *Path("examples/fashion-mnist").glob("*.png")])
    files = [path.read_bytes() for path in paths] or generated(spec.image_size, spec.channels).files
    return [decoder(spec)(file) for file in files]


def decoder(spec: ModelSpec) -> Callable[[bytes], Patches]:
    side = smallest_useful_side(spec)
    return lambda file: to_patches(decode(file, spec.channels, side, LIMITS), spec)
