"""Sets that are decoded while they are used are the sets that are kept in memory, picture by picture."""

import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.data import loading, reading
from model.data.batches import Batches
from model.data.dataset import Dataset, PreprocessConfig
from model.data.loading import load
from model.data.stream import StreamedPixels
from model.errors import DataError
from model.evaluation.evaluate import all_logits
from model.evaluation.inventory import describe
from model.spec import Fit
from model.training.processes import shard_slices
from tests.model.toys import random_pixels, toy_recipe, write_idx

CONFIG = PreprocessConfig(8, 3)


def _photographs(folder: Path, count: int = 11, size: tuple[int, int] = (30, 21)) -> Path:
    """JPEGs, so many of each of two classes: smooth, and each its own."""
    for index, label in enumerate(("cat", "dog")):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            coarse = Image.fromarray(random_pixels(4, 5, 3, seed=1000 * index + number))
            coarse.resize(size, Image.Resampling.BICUBIC).save(folder / label / f"{number:04}.jpg")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _photographs(tmp_path_factory.mktemp("photographs"))


def _both(folder: Path, config: PreprocessConfig = CONFIG) -> tuple[Dataset, Dataset]:
    kept, streamed = (load(folder, config, val_fraction=0.2, stream=stream) for stream in (False, True))
    assert isinstance(kept.train.pixels, np.ndarray)
    assert isinstance(streamed.train.pixels, StreamedPixels)
    assert isinstance(streamed.val.pixels, StreamedPixels)
    return kept, streamed


def _batches(dataset: Dataset, **changes: Any) -> Batches:
    recipe = toy_recipe(**{"batch_size": 5, "mixup": 0.5, **changes})
    return Batches(dataset.train, recipe, 2, 2, torch.device("cpu"))


# --- the same set ---


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_pixels_labels_paths_and_fingerprint_are_those_of_the_set_in_memory(folder: Path, fit: Any) -> None:
    kept, streamed = _both(folder, PreprocessConfig(8, 1, Fit(mode=fit, background="dark")))
    assert streamed.fingerprint == kept.fingerprint
    for ours, theirs in ((streamed.train, kept.train), (streamed.val, kept.val)):
        assert ours.pixels.shape == theirs.pixels.shape
        np.testing.assert_array_equal(ours.pixels[:], theirs.pixels)
        np.testing.assert_array_equal(ours.pixels[::3], theirs.pixels[::3])
        np.testing.assert_array_equal(ours.pixels[2], theirs.pixels[2])
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        assert ours.paths == theirs.paths


@pytest.mark.parametrize("count", [1, 2, 3])
def test_batches_are_equal_for_a_seed_in_any_number_of_parts(folder: Path, count: int) -> None:
    kept, streamed = map(_batches, _both(folder))
    for step in range(3 * kept.per_epoch):
        for places in shard_slices(len(kept.rows(step)), count):
            ours, theirs = streamed.part(step, places), kept.part(step, places)
            assert torch.equal(ours.pixels, theirs.pixels)
            assert torch.equal(ours.targets, theirs.targets)
    streamed.close()


def test_a_step_is_the_same_wherever_a_run_goes_on(folder: Path) -> None:
    through, fresh = (_batches(load(folder, CONFIG, stream=True), crop_scale=0.08) for _ in range(2))
    for step in range(7):
        places = slice(0, len(through.rows(step)))
        last = through.part(step, places)
    assert torch.equal(fresh.part(6, places).pixels, last.pixels)
    assert torch.equal(fresh.part(100, slice(0, 2)).pixels, fresh.part(100, slice(0, 2)).pixels)


def test_crops_are_the_same_parts_of_the_picture_from_more_pixels(tmp_path: Path) -> None:
    _photographs(tmp_path, 12, (240, 180))
    still = {"flip": 0.0, "pad_crop": 0.0, "erase": 0.0, "mixup": 0.0, "crop_scale": 0.2}
    for fit in ("pad", "crop", "stretch"):
        kept, streamed = _both(tmp_path, PreprocessConfig(32, 3, Fit(mode=fit)))
        places = slice(0, 16)
        theirs = _batches(kept, batch_size=16, **still).part(0, places).pixels.float()
        ours = _batches(streamed, batch_size=16, **still).part(0, places).pixels.float()
        assert not torch.equal(ours, theirs)
        assert (ours - theirs).abs().mean() < 6  # of 255
        others = (ours - theirs.roll(1, 0)).abs().mean()
        assert others > 40


def test_logits_of_a_share_are_those_of_the_set_in_memory(folder: Path) -> None:
    def logits_of(pixels: Any) -> Any:
        return pixels.reshape(len(pixels), -1)[:, :2].astype(np.float32)

    kept, streamed = _both(folder)
    for places in shard_slices(len(kept.train), 3):
        ours, theirs = (all_logits(logits_of, one.train, places, batch_size=2) for one in (streamed, kept))
        np.testing.assert_array_equal(ours, theirs)


# --- broken files, doubts ---


def test_broken_files_are_left_out_and_named_as_in_memory(tmp_path: Path) -> None:
    _photographs(tmp_path)
    (tmp_path / "cat" / "0003.jpg").write_bytes(b"not a picture")
    cut = tmp_path / "dog" / "0005.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    told: list[tuple[int, int]] = []
    kept, streamed = _both(tmp_path)
    assert len(kept.skipped) == 2
    assert streamed.skipped == kept.skipped
    assert streamed.fingerprint == kept.fingerprint
    load(tmp_path, CONFIG, stream=True, progress=lambda *progress: told.append(progress))
    assert told == [(done, 22) for done in range(1, 23)]


def test_pictures_that_are_in_two_splits_are_told_as_in_memory(tmp_path: Path) -> None:
    for split in ("train", "val"):
        _photographs(tmp_path / split, 3)
    kept, streamed = _both(tmp_path)
    doubts = [[line for line in describe(one) if line.startswith("warning")] for one in (kept, streamed)]
    assert doubts[0] == doubts[1]
    assert any("are training pictures, too" in line for line in doubts[0])


def test_a_file_that_breaks_afterwards_ends_the_step_with_its_name(tmp_path: Path) -> None:
    batches = _batches(load(_photographs(tmp_path), CONFIG, stream=True))
    (tmp_path / "cat" / "0002.jpg").unlink()
    with pytest.raises(DataError, match=r"0002.jpg is not a readable picture"):  # noqa: PT012 -- in one of these steps
        for step in range(batches.per_epoch):
            batches.part(step, slice(0, len(batches.rows(step))))
    batches.close()


# --- when ---


def test_a_set_is_streamed_where_its_pixels_are_more_than_is_for_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most, is_streamed in ((22 * 8 * 8 * 3, False), (22 * 8 * 8 * 3 - 1, True)):
        monkeypatch.setattr(loading, "picture_bytes", lambda most=most: most)
        dataset = load(folder, CONFIG)
        assert isinstance(dataset.train.pixels, StreamedPixels) is is_streamed
        told = [note for note in dataset.notes if note.startswith("pictures are decoded while the network trains")]
        assert len(told) == is_streamed
        assert not is_streamed or "more than the" in told[0]
        assert not isinstance(load(folder, CONFIG, stream=False).train.pixels, StreamedPixels)


def test_idx_files_are_not_streamed(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", random_pixels(8, 8, 8), [0, 1] * 4)
    with pytest.raises(DataError, match="holds IDX files, which are read as a whole; expected no --stream"):
        load(tmp_path, CONFIG, stream=True)
    assert not isinstance(load(tmp_path, CONFIG).train.pixels, StreamedPixels)


# --- ahead, and in bounds ---


def test_the_next_step_is_decoded_while_the_caller_works_on_this_one(folder: Path) -> None:
    batches = _batches(load(folder, CONFIG, stream=True))
    batches.part(0, slice(0, 5))
    assert batches._ahead is not None
    (under_way,) = batches._ahead._begun.values()
    assert len(under_way) == 5
    assert all(future.result(timeout=60).shape == (8, 8, 3) for future in under_way)
    batches.close()
    assert not batches._ahead._begun


def test_a_last_batch_that_is_smaller_is_decoded_ahead_as_well(folder: Path) -> None:
    batches = _batches(load(folder, CONFIG, stream=True))
    last = batches.per_epoch - 1
    batches.part(last - 1, slice(0, 5))
    assert batches._ahead is not None
    before = list(batches._ahead._begun.values())
    batches.part(last, slice(0, len(batches.rows(last))))
    assert before[0] not in batches._ahead._begun.values()
    assert [part[0] for part in batches._ahead._begun] == [last + 1]
    batches.close()


def test_after_the_last_step_nothing_is_decoded_ahead(folder: Path) -> None:
    batches = _batches(load(folder, CONFIG, stream=True), epochs=1)
    last = batches.per_epoch - 1
    batches.part(last, slice(0, len(batches.rows(last))))
    assert batches._ahead is not None
    assert not batches._ahead._begun


def test_reading_holds_few_pictures_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _photographs(tmp_path, 200, (16, 12))
    monkeypatch.setattr(reading, "_AHEAD", 4)
    config = PreprocessConfig(96, 3)  # 27 kB each, 11 MB in all
    tracemalloc.start()
    try:
        dataset = load(tmp_path, config, stream=True)
        loaded, peak = tracemalloc.get_traced_memory()
        assert peak < 3e6
        tracemalloc.reset_peak()
        batches = _batches(dataset, batch_size=8, mixup=0.0, pad_crop=0.0)
        for step in range(batches.per_epoch):
            batches.part(step, slice(0, len(batches.rows(step))))
        all_logits(lambda pixels: np.zeros((len(pixels), 2), np.float32), dataset.train, batch_size=8)
        now, peak = tracemalloc.get_traced_memory()
        batches.close()
    finally:
        tracemalloc.stop()
    assert peak - loaded < 3e6
    assert now - loaded < 1.5e6


def test_threads_end_with_the_set(folder: Path) -> None:
    before = set(threading.enumerate())  # those of other tests' sets may end meanwhile
    dataset = load(folder, CONFIG, stream=True)
    dataset.train.pixels[:4]
    own = set(threading.enumerate()) - before
    assert own
    del dataset
    for thread in own:
        thread.join(10)
    assert not any(thread.is_alive() for thread in own), "the decoding threads are still there"
