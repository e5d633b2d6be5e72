"""Pictures that are decoded when they are asked for, in threads: sets that do not fit in memory.

Knows nothing of seeds or recipes, nor of which pictures are asked for next.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import PreprocessConfig, read_pixels
from model.preprocess import Pixels, View

Decoding = list[Future[Pixels]]
"""Pictures under way, uint8 [H, W, C] each."""
PartUnderWay = tuple[int, int, int]
"""Some pictures of a batch: the step, the index of the first, how many."""


class StreamedPixels:
    """Files that are indexed as the array uint8 [N, H, W, C] of their pixels; every access decodes anew.

    digests: each picture's, as model/data/dataset.py makes them.
    Raises, where it is indexed: DataError, for a file that can no longer be read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        preprocess_config: PreprocessConfig,
        pool: ThreadPoolExecutor,
        digests: Sequence[bytes] = (),
    ) -> None:
        self._paths, self._preprocess_config, self._pool = paths, preprocess_config, pool
        self.digests = digests
        size = preprocess_config.image_size
        self.shape = (len(paths), size, size, preprocess_config.channels)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, rows: Any, /) -> Pixels:
        """By one index, a slice or an array of indices."""
        if isinstance(rows, int | np.integer):
            return read_pixels(self._paths[int(rows)], self._preprocess_config)
        return self.collect(self.begin(np.arange(len(self))[rows]))

    def begin(self, rows: NDArray[np.intp], views: Sequence[View] | None = None) -> Decoding:
        """Have these pictures decoded, or a view of each: a part of its square."""
        parts: Sequence[View | None] = [None] * len(rows) if views is None else views
        return [
            self._pool.submit(read_pixels, self._paths[row], self._preprocess_config, view)
            for row, view in zip(rows, parts, strict=True)
        ]

    def collect(self, decoding: Decoding) -> Pixels:
        """Wait for pictures under way: uint8 [n, H, W, C]."""
        pixels = np.empty((len(decoding), *self.shape[1:]), dtype=np.uint8)
        try:
            for index, future in enumerate(decoding):
                pixels[index] = future.result()
        finally:
            cancel(decoding)
        return pixels


class ReadAhead:
    """The pictures of one step after another: those of the next are decoded while the caller works on these."""

    def __init__(self, pixels: StreamedPixels) -> None:
        self._pixels = pixels
        self._begun: dict[PartUnderWay, Decoding] = {}

    def begin(self, step: int, start: int, rows: NDArray[np.intp], views: Sequence[View] | None) -> PartUnderWay:
        """Have these pictures decoded, unless they are under way: those from index `start` of a step's batch."""
        part = step, start, len(rows)
        if part not in self._begun:
            self._begun[part] = self._pixels.begin(rows, views)
        return part

    def collect(self, part: PartUnderWay) -> Pixels:
        """Wait for pictures that are under way. Those of earlier steps are dropped."""
        for other in [other for other in self._begun if other[0] < part[0]]:
            cancel(self._begun.pop(other))
        return self._pixels.collect(self._begun.pop(part))

    def close(self) -> None:
        """Decode nothing more."""
        while self._begun:
            cancel(self._begun.popitem()[1])


def cancel(decoding: Decoding) -> None:
    """Drop what has not begun."""
    for future in decoding:
        future.cancel()
