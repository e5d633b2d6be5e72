"""A piece of a picture file, repeated up to 10,000 times: segments, chunks, scans, frames, tables, tags, blocks."""

import random

from tests.fuzzing import extremes
from tests.fuzzing.containers import split

_MOST_NEIGHBOURS = 3  # as the start of a scan and its bits, or a tag and the two behind it


def repeated(payload: bytes, rng: random.Random, most_bytes: int) -> bytes:
    """Of a file without pieces a run of its bytes."""
    container = split(payload)
    if container is None or not container.pieces:
        at = rng.randrange(len(payload) + 1)
        span = payload[at : at + rng.choice((1, 2, 4, 64, 1000))]
        return payload[:at] + span * _times(len(span), rng, most_bytes) + payload[at:]
    pieces = container.pieces
    first = rng.randrange(len(pieces))
    some = pieces[first : first + rng.randint(1, _MOST_NEIGHBOURS)]
    times = _times(sum(len(piece.content) + 12 for piece in some), rng, most_bytes)
    to = first if rng.random() < 0.8 else rng.randrange(len(pieces) + 1)
    return container.join([*pieces[:to], *some * min(times, 65_000 // len(some)), *pieces[to:]])


def _times(length: int, rng: random.Random, most_bytes: int) -> int:
    return min(extremes.repeats(rng), most_bytes // max(1, length))
