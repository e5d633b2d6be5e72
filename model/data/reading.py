"""The files of a catalog, read: into one array, or once over for sets that are decoded while they are used.

Either way the same pictures are left out, and the others have the same order and fingerprint. Knows nothing of folders.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from model.data.ahead import in_order
from model.data.catalog import Rows
from model.data.dataset import ImageSet, PreprocessConfig, allocate, fingerprint, picture_digest, read_pixels
from model.data.layout import Split
from model.data.machine import decoding_threads
from model.data.pillow_warnings import ImageWarnings
from model.data.stream import StreamedPixels
from model.errors import DataError
from model.preprocess import Pixels

_AHEAD = 64  # decoded pictures that wait to be taken
_SPLITS: tuple[Split, ...] = ("train", "val", "test")  # in the order of a fingerprint
Progress = Callable[[int, int], None]
Sets = dict[Split, ImageSet]


class Reader:
    """Reads every file of some splits in threads. skipped: those that cannot be read, with the reason."""

    def __init__(
        self,
        files: Mapping[Split, Rows],
        preprocess_config: PreprocessConfig,
        warnings: ImageWarnings,
        progress: Progress,
    ) -> None:
        self._files, self._preprocess_config = files, preprocess_config
        self._warnings, self._progress = warnings, progress
        self._total, self._done = sum(map(len, files.values())), 0
        self.skipped: list[tuple[Path, str]] = []

    @property
    def num_bytes(self) -> int:
        """What the pixels would take in memory, were every file readable."""
        return self._total * self._preprocess_config.image_size**2 * self._preprocess_config.channels

    def into_memory(self) -> Sets:
        """Each split's readable pictures. Those of a split are contiguous."""
        pixels, used = allocate(self._total, self._preprocess_config), 0
        sets: Sets = {}
        with ThreadPoolExecutor() as pool:
            for split, rows in self._files.items():
                start, labels, paths = used, [], []
                for path, label, picture in self._readable(rows, pool):
                    pixels[used] = picture
                    labels.append(label)
                    paths.append(path)
                    used += 1
                sets[split] = ImageSet(pixels[start:used], np.array(labels, dtype=np.int64), tuple(paths))
        return sets

    def streamed(self) -> tuple[Sets, str]:
        """The same pictures, of which none is kept, and their fingerprint.

        The fingerprint begins with the number of pictures: where some are skipped, all others are read once more.
        """
        pool = ThreadPoolExecutor(decoding_threads())
        config, sets, whole = self._preprocess_config, Sets(), hashlib.sha256()
        for split in _SPLITS:
            if split not in self._files:
                continue
            labels, paths, digests = [], [], []
            shape = (len(self._files[split]), config.image_size, config.image_size, config.channels)
            whole.update(repr(shape).encode())
            for path, label, picture in self._readable(self._files[split], pool):
                whole.update(np.ascontiguousarray(picture).data)
                labels.append(label)
                paths.append(path)
                digests.append(picture_digest(picture))
            sets[split] = ImageSet(
                StreamedPixels(tuple(paths), config, pool, tuple(digests)),
                np.array(labels, dtype=np.int64),
                tuple(paths),
            )
            whole.update(sets[split].labels.data)
        return sets, fingerprint(*map(sets.get, _SPLITS)) if self.skipped else whole.hexdigest()

    def _readable(self, rows: Rows, pool: ThreadPoolExecutor) -> Iterator[tuple[Path, int, Pixels]]:
        """In order; the others are noted."""
        pictures = in_order(pool, self._read, (path for path, _ in rows), _AHEAD)
        for (path, label), outcome in zip(rows, pictures, strict=True):
            self._done += 1
            self._progress(self._done, self._total)
            if isinstance(outcome, DataError):
                self.skipped.append((path, str(outcome)))
            else:
                yield path, label, outcome

    def _read(self, path: Path) -> Pixels | DataError:
        try:
            with self._warnings.reading(path):
                return read_pixels(path, self._preprocess_config)
        except DataError as error:
            return error
