"""Tensors of any type of numbers are float32 when they are asked for; what is broken is named when it is met."""

import json
import tracemalloc
import zipfile
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


def test_complex_numbers_are_not_cut_in_half(tmp_path: Path):
    tensor = saved(tmp_path, ".npz", a=VALUES.astype(np.complex64))["a"]
    with pytest.raises(CheckpointError, match=r"file\.npz cannot be read as \.npz: It has complex numbers"):
        tensor.read()


def test_objects_are_not_run(tmp_path: Path):
    np.savez(tmp_path / "file.npz", a=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CheckpointError, match=r"allow_pickle=False"):
        open_npz(tmp_path / "file.npz")["a"].read()


@pytest.mark.parametrize("count", [10**13, 10**30])
def test_a_header_that_claims_more_numbers_than_memory_has_is_named(tmp_path: Path, count: int):
    header = {"descr": "<f4", "fortran_order": False, "shape": (count,)}
    with (
        zipfile.ZipFile(tmp_path / "file.npz", "w") as archive,
        archive.open("a.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(CheckpointError, match=r"file\.npz cannot be read as \.npz: "):
        open_npz(tmp_path / "file.npz")["a"].read()


def test_an_archive_that_is_broken_within_lzma_is_named(tmp_path: Path):
    path = tmp_path / "file.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive, archive.open("a.npy", "w") as file:
        np.save(file, np.random.default_rng(0).random(1000))
    content = bytearray(path.read_bytes())
    content[60:200] = b"\xff" * 140
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"file\.npz cannot be read as \.npz: Corrupt input data"):
        open_npz(path)["a"].read()


def test_numbers_of_a_type_that_numpy_has_not_are_named(tmp_path: Path):
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "file.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match=r"file\.safetensors cannot be read as .*float8_e4m3"):
        open_safetensors(tmp_path / "file.safetensors")["a"].read()
