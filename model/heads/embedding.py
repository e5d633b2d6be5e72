"""Pictures -> embeddings: those in the cache are taken from it, all others decoded and embedded.

Knows nothing of folders, labels' meaning or heads.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.machine import decoding_threads
from model.errors import DataError
from model.heads.cache import EmbeddingCache, Vectors
from model.heads.pictures import Picture
from model.heads.trunk import Trunk
from model.preprocess import Pixels

_AT_ONCE = 32
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Embedded:
    """vectors: float32 [n, C]; labels: int64 [n]; digests: 16 bytes each."""

    vectors: Vectors
    labels: NDArray[np.int64]
    digests: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.labels)


def embed(
    pictures: Sequence[Picture],
    trunk: Trunk,
    cache: EmbeddingCache,
    skipped: list[tuple[Path, str]],
    progress: Progress = lambda done, total: None,
) -> Embedded:
    """The pictures that can be read; the others are added to `skipped`. The cache is written, however this ends."""
    missing = list({picture.digest: picture for picture in pictures if picture.digest not in cache}.values())
    done = 0
    try:
        for some, pixels in _decoded(missing, skipped):
            for picture, vector in zip(some, trunk.embed(pixels), strict=True):
                cache.put(picture.digest, vector)
            done += len(some)
            progress(done, len(missing))
    finally:
        cache.write()
    known = [picture for picture in pictures if picture.digest in cache]
    return Embedded(
        np.stack([cache[picture.digest] for picture in known]) if known else np.empty((0, trunk.width), np.float32),
        np.array([picture.label for picture in known], dtype=np.int64),
        tuple(picture.digest for picture in known),
    )


def _decoded(pictures: Sequence[Picture], skipped: list[tuple[Path, str]]) -> Iterator[tuple[list[Picture], Pixels]]:
    """Some at a time: the next are decoded in threads while the caller works on these."""
    with ThreadPoolExecutor(decoding_threads()) as pool:
        starts = range(0, len(pictures), _AT_ONCE)
        waiting = [pool.submit(_read, picture) for picture in pictures[:_AT_ONCE]]
        for start in starts:
            ahead = [pool.submit(_read, picture) for picture in pictures[start + _AT_ONCE : start + 2 * _AT_ONCE]]
            outcomes = [future.result() for future in waiting]
            waiting = ahead
            some = list(zip(pictures[start : start + _AT_ONCE], outcomes, strict=True))
            skipped += [(Path(picture.name), str(one)) for picture, one in some if isinstance(one, DataError)]
            readable = [(picture, one) for picture, one in some if not isinstance(one, DataError)]
            if readable:
                yield [picture for picture, _ in readable], np.stack([pixels for _, pixels in readable])


def _read(picture: Picture) -> Pixels | DataError:
    try:
        return picture.read()
    except DataError as error:
        return error
