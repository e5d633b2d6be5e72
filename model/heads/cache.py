"""Embeddings on disk, by the digest of a picture: one file for each trunk. Knows neither pictures nor networks."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.hubs.lock import alone_with
from model.network.checkpoint_folder import write_atomically

Vectors = NDArray[np.float32]
DIGEST_BYTES = 16


class EmbeddingCache:
    """What one trunk says of pictures: float32 [C] each.

    A file that cannot be read counts as empty, and one that cannot be written is left as it is: it is a cache.
    """

    def __init__(self, path: Path, width: int) -> None:
        self._path, self._width = path, width
        self._vectors = self._stored()
        self._is_changed = False

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._vectors

    def __getitem__(self, digest: bytes) -> Vectors:
        return self._vectors[digest]

    def __len__(self) -> int:
        return len(self._vectors)

    def put(self, digest: bytes, vector: Vectors) -> None:
        """Keep what the trunk says of a picture, [C]."""
        self._vectors[digest] = vector
        self._is_changed = True

    def write(self) -> str | None:
        """Add what has been put since it was read; another process may have added, too, and may be writing now.

        Returns: why it could not be written, if so.
        """
        if not self._is_changed:
            return None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with alone_with(self._path.with_suffix(".lock")):
                self._vectors = {**self._stored(), **self._vectors}
                write_atomically(self._path, self._save)
        except OSError as error:
            return f"{self._path} cannot be written: {error.strerror or error}"
        self._is_changed = False
        return None

    def _stored(self) -> dict[bytes, Vectors]:
        """What the file has."""
        try:
            with self._path.open("rb") as file, np.load(file) as stored:
                digests, vectors = stored["digests"], stored["vectors"]
            is_ours = digests.shape == (len(vectors), DIGEST_BYTES) and vectors.shape == (len(digests), self._width)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError):
            return {}
        if not is_ours or (digests.dtype, vectors.dtype) != (np.uint8, np.float32):
            return {}
        return {digest.tobytes(): vectors[row] for row, digest in enumerate(digests)}

    def _save(self, path: Path) -> None:
        digests = np.frombuffer(b"".join(self._vectors), np.uint8).reshape(len(self._vectors), DIGEST_BYTES)
        with path.open("wb") as file:
            np.savez(file, digests=digests, vectors=np.stack(list(self._vectors.values())))


def content_digest(content: bytes) -> bytes:
    """DIGEST_BYTES that two different files do not share."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
