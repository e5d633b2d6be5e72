"""Fuzzed: as `decode`, with files that are made: containers inside containers, repetitions, extreme shapes.

Each is decoded as it is, or changed once more as any other picture; half of what is kept was changed before.
"""

import random
from functools import partial

from tests.fuzzing import decode
from tests.fuzzing.extremes import extreme
from tests.fuzzing.mutations import mutated
from tests.fuzzing.nested import inner, jpeg_of, nested
from tests.fuzzing.repeated import repeated
from tests.fuzzing.tiff_files import tiff_image


class Fuzzed(decode.Fuzzed):
    """Its files are larger than those of `decode`, and made anew each time, not only changed."""

    most_bytes = 1 << 20

    def mutated(self, payload: bytes, partner: bytes, rng: random.Random) -> bytes:
        """A third of them repeats a piece of a file, be it made or changed."""
        what = rng.random()
        if what < 0.25:
            payload = nested(rng)
        elif what < 0.45:
            payload = tiff_image(rng, partial(jpeg_of, rng=rng))
        elif what < 0.6:
            payload = extreme(rng)
        elif what < 0.65:
            payload = inner(rng)
        if rng.random() < 0.35:
            payload = repeated(payload, rng, self.most_bytes)
        if rng.random() < 0.4:
            payload = mutated(payload, partner, rng, self.most_bytes)
        return payload[: self.most_bytes]
