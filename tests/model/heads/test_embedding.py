"""Which pictures are embedded, and what is kept of them on disk."""

import fcntl
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.data.dataset import PreprocessConfig
from model.heads.cache import EmbeddingCache, content_digest
from model.heads.embedding import embed
from model.heads.pictures import Picture, listing
from model.heads.trunk import Trunk, trunk_digest
from model.network.transfer import with_new_head
from tests.model.toys import random_mixer, random_pixels, toy_config, write_class

pytestmark = pytest.mark.timeout(60)
GREY = PreprocessConfig(image_size=8, channels=1)


def trunk() -> Trunk:
    return Trunk(random_mixer(toy_config()), torch.device("cpu"))


def pictures(folder: Path, count: int) -> list[Picture]:
    write_class(folder / "black", count, 10)
    listed = listing(folder, GREY, labels=None, val_fraction=0.1, seed=0)
    return [*listed.train, *listed.val]


def test_an_embedding_is_what_the_head_sees(tmp_path: Path):
    model, pixels = random_mixer(toy_config()), random_pixels(3, 8, 8, 1)
    embedding = torch.from_numpy(Trunk(model, torch.device("cpu")).embed(pixels))
    assert torch.allclose(model.classify(embedding), model(torch.from_numpy(pixels)), atol=1e-5)


def test_what_is_kept_is_what_was_said(tmp_path: Path):
    listed = pictures(tmp_path / "data", 40)
    first = embed(listed, trunk(), EmbeddingCache(tmp_path / "c.npz", 16), [])
    counts: list[int] = []
    again = embed(listed, trunk(), EmbeddingCache(tmp_path / "c.npz", 16), [], lambda done, total: counts.append(done))
    assert np.array_equal(first.vectors, again.vectors)
    assert counts == []


def saved(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


VECTOR = np.ones((1, 16), np.float32)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        b"PK\x03\x04 broken",
        saved(np.save, VECTOR),
        saved(np.savez, digests=np.array(1), vectors=VECTOR),
        saved(np.savez, digests=np.zeros((1, 8), np.uint8), vectors=VECTOR),
        saved(np.savez, digests=np.zeros((1, 16), np.uint8), vectors=VECTOR.astype(str)),
    ],
)
def test_a_broken_cache_counts_as_empty_and_is_written_anew(tmp_path: Path, content: bytes):
    (tmp_path / "c.npz").write_bytes(content)
    cache = EmbeddingCache(tmp_path / "c.npz", 16)
    assert len(cache) == 0
    cache.put(content_digest(b"a"), np.ones(16, np.float32))
    assert cache.write() is None
    assert len(EmbeddingCache(tmp_path / "c.npz", 16)) == 1


def test_two_that_write_at_once_keep_what_both_have_found(tmp_path: Path):
    caches = [EmbeddingCache(tmp_path / "c.npz", 16) for _ in range(2)]
    digests = [content_digest(name) for name in (b"a", b"b")]
    for cache, digest in zip(caches, digests, strict=True):
        cache.put(digest, np.ones(16, np.float32))
        assert cache.write() is None
    kept = EmbeddingCache(tmp_path / "c.npz", 16)
    assert all(digest in kept for digest in digests)


class Watched(EmbeddingCache):
    """A cache that finds its lock held whenever it writes."""

    def _save(self, path: Path) -> None:
        with (path.parent / "c.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        super()._save(path)


def test_only_one_writes_at_a_time(tmp_path: Path):
    cache = Watched(tmp_path / "c.npz", 16)
    cache.put(content_digest(b"a"), np.ones(16, np.float32))
    assert cache.write() is None
    assert len(EmbeddingCache(tmp_path / "c.npz", 16)) == 1


def test_a_cache_that_cannot_be_written_says_so_and_stops_nothing(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    cache = EmbeddingCache(tmp_path / "file" / "c.npz", 16)
    cache.put(content_digest(b"a"), np.ones(16, np.float32))
    assert "cannot be written" in (cache.write() or "")


def test_a_picture_that_cannot_be_read_is_left_out_with_its_reason(tmp_path: Path):
    listed = pictures(tmp_path / "data", 3)
    Path(listed[1].name).write_bytes(b"broken")
    skipped: list[tuple[Path, str]] = []
    embedded = embed(listed, trunk(), EmbeddingCache(tmp_path / "c.npz", 16), skipped)
    assert len(embedded) == 2
    assert [path for path, _ in skipped] == [Path(listed[1].name)]


def test_a_trunk_is_known_by_all_weights_but_the_heads(tmp_path: Path):
    model = random_mixer(toy_config())
    assert trunk_digest(with_new_head(model, 7)) == trunk_digest(model)
    model.pre_head_layer_norm.bias.data[0] += 1
    assert trunk_digest(model) != trunk_digest(random_mixer(toy_config()))


def test_another_way_to_see_pictures_is_another_key():
    other = PreprocessConfig(image_size=8, channels=1, interpolation="nearest")
    assert trunk().key(GREY) == trunk().key(GREY)
    assert trunk().key(GREY) != trunk().key(other)
