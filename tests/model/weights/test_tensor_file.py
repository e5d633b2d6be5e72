"""Tensors of any type of numbers are float32 when they are asked for; what is broken is named when it is met."""

import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import DTypeLike
from safetensors.numpy import save_file

from model.errors import CheckpointError
from model.weights.tensor_file import StoredTensor, open_npz, open_safetensors

VALUES = np.array([[1.5, -2.0, 0.25], [0.0, 96.0, -0.5]], np.float32)


def saved(folder: Path, suffix: str, **tensors: np.ndarray) -> dict[str, StoredTensor]:
    path = folder / f"file{suffix}"
    if suffix == ".npz":
        np.savez(path, **tensors)
        return open_npz(path)
    save_file(tensors, path)
    return open_safetensors(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.int8])
def test_numbers_of_every_type_become_floats(tmp_path: Path, suffix: str, dtype: DTypeLike):
    values = VALUES.astype(dtype)
    tensor = saved(tmp_path, suffix, a=values)["a"]
    assert tensor.shape == (2, 3)
    assert tensor.read().dtype == np.float32
    np.testing.assert_array_equal(tensor.read(), values.astype(np.float32))


def test_a_compressed_archive_and_one_in_fortran_order_are_read(tmp_path: Path):
    np.savez_compressed(tmp_path / "file.npz", a=np.asfortranarray(VALUES))
    tensor = open_npz(tmp_path / "file.npz")["a"]
    assert tensor.shape == (2, 3)
    np.testing.assert_array_equal(tensor.read(), VALUES)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_opening_reads_shapes_alone_and_reading_one_tensor_no_other(tmp_path: Path, suffix: str):
    large = np.zeros((1024, 1024), np.float32)
    saved(tmp_path, suffix, a=large, b=large, c=VALUES)
    tracemalloc.start()
    try:
        tensors = (open_npz if suffix == ".npz" else open_safetensors)(tmp_path / f"file{suffix}")
        tensors["c"].read()
        assert tracemalloc.get_traced_memory()[1] < large.nbytes / 2
        tensors["a"].read()
        assert large.nbytes <= tracemalloc.get_traced_memory()[1] < 1.5 * large.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_that_is_gone_when_a_tensor_is_asked_for_is_named(tmp_path: Path, suffix: str):
    tensor = saved(tmp_path, suffix, a=VALUES)["a"]
    (tmp_path / f"file{suffix}").unlink()
    with pytest.raises(CheckpointError, match=rf"file{suffix} cannot be read as {suffix}: No such file"):
        tensor.read()


def test_words_are_no_numbers(tmp_path: Path):
    tensor = saved(tmp_path, ".npz", a=np.array(["a", "b"]))["a"]
    with pytest.raises(CheckpointError, match=r"file\.npz cannot be read as \.npz"):
        tensor.read()


def test_objects_are_not_run(tmp_path: Path):
    np.savez(tmp_path / "file.npz", a=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CheckpointError, match=r"allow_pickle=False"):
        open_npz(tmp_path / "file.npz")["a"].read()
