"""Fuzzed: a picture file -> pixels -> patches, under the service's own limits, for three kinds of model."""

import random
import warnings
import zlib

import numpy as np

from app.decoding.cost_checks import DecodeBudget
from app.decoding.decoder import DecodeLimits, decode
from app.errors import ServiceError
from app.settings import Settings
from app.system.quota import Quota
from model.preprocess import smallest_useful_side, to_patches
from model.spec import Fit, ModelSpec, Source
from tests.fuzzing import seeds
from tests.fuzzing.containers import kind_of
from tests.fuzzing.mutations import MOST_BYTES, mutated
from tests.fuzzing.targets import ACCEPTED, OUTCOMES, Checked, Finding


def spec(channels: int, image_size: int, patch_size: int, fit: Fit) -> ModelSpec:
    return ModelSpec(
        name="fuzzed",
        version="1",
        image_size=image_size,
        patch_size=patch_size,
        channels=channels,
        num_classes=2,
        labels=("yes", "no"),
        fit=fit,
        source=Source(origin="made for a test"),
    )


SPECS = (
    spec(3, 32, 8, Fit(crop_percentage=0.875)),
    spec(1, 28, 4, Fit(mode="pad", background="dark")),
    spec(3, 16, 16, Fit(mode="stretch")),
)


class Fuzzed:
    """Which model it is follows from the bytes, so that a file is all that it takes to see a finding again."""

    kinds = ("png", "jpeg", "gif", "webp", "bmp", "tiff", "other")
    most_bytes = MOST_BYTES

    def __init__(self) -> None:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd files, as the service ignores them
        options = Settings.model_construct()
        budget = DecodeBudget(Quota(options.decode_memory_bytes))
        self._limits = DecodeLimits(options.max_image_bytes, options.max_image_pixels, budget)

    def seeds(self) -> dict[str, bytes]:
        return seeds.images()

    def mutated(self, payload: bytes, partner: bytes, rng: random.Random) -> bytes:
        return mutated(payload, partner, rng)

    def check(self, payload: bytes) -> Checked:
        model = SPECS[zlib.crc32(payload) % len(SPECS)]
        try:
            pixels = decode(payload, model.channels, smallest_useful_side(model), self._limits)
        except ServiceError as error:
            return Checked(kind_of(payload), outcome_of(error))
        expect(pixels, (*pixels.shape[:2], model.channels))
        expect(to_patches(pixels, model), (model.num_patches, model.patch_bytes))
        return Checked(kind_of(payload), ACCEPTED)

    def close(self) -> None:
        """It holds nothing."""


def outcome_of(error: ServiceError) -> str:
    """Raises: Finding for a refusal that does not say what is wrong with the file, as OutOfMemory."""
    if error.code not in OUTCOMES:
        raise Finding(f"It is refused with {error.status} {error.code}: {error}") from error
    return error.code


def expect(values: np.ndarray, shape: tuple[int, ...]) -> None:
    if values.shape != shape or values.dtype != np.uint8 or 0 in shape:
        raise Finding(f"The result is {values.dtype} {values.shape}; expected uint8 {shape}.")
