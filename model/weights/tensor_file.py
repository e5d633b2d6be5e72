"""Files of tensors, read one tensor at a time: .npz and .safetensors. Knows neither their names nor layouts.

The shapes are read when a file is opened; the numbers whenever they are asked for, so that a network never lies in
memory as a whole.
"""

import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # whose types of two bytes and one NumPy then knows, by name too
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from model.errors import CheckpointError

Array = NDArray[np.float32]

_BROKEN = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(MemoryError, OverflowError),  # for a shape of more numbers than any file has
    AttributeError,  # for a type of numbers that NumPy has not
)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its shape, and its numbers as float32, read anew at every call. Raises CheckpointError."""

    shape: tuple[int, ...]
    read: Callable[[], Array]


StoredTensors = Mapping[str, StoredTensor]


def held(tensor: Array) -> StoredTensor:
    """An array that is in memory, as a tensor of a file is seen."""
    return StoredTensor(tensor.shape, lambda: tensor)


def open_npz(path: Path) -> dict[str, StoredTensor]:
    """The arrays of a .npz, as np.savez and np.savez_compressed write them. Raises CheckpointError."""
    with reading(path), _archive(path) as archive:
        return {name: StoredTensor(_npy_shape(archive, name), _npz_reader(path, name)) for name in archive.files}


def open_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a .safetensors file, of any type of numbers. Raises CheckpointError."""
    with reading(path), _safetensors(path) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 -- no dict
    return {name: StoredTensor(shape, _safetensors_reader(path, name)) for name, shape in shapes.items()}


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever a broken file leads to into a CheckpointError that names the file and the reason."""
    try:
        yield
    except (*_BROKEN, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as {path.suffix}: {_reason(path, error)}") from error


@contextmanager
def _archive(path: Path) -> Iterator[Any]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        yield archive


def _npz_reader(path: Path, name: str) -> Callable[[], Array]:
    def read() -> Array:
        with reading(path), _archive(path) as archive:
            return _floats(archive[name])

    return read


def _npy_shape(archive: Any, name: str) -> tuple[int, ...]:
    """The shape in the header of one array of an opened archive."""
    inside = f"{name}.npy" if f"{name}.npy" in archive.zip.namelist() else name
    with archive.zip.open(inside) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return tuple(read(file)[0])


@contextmanager
def _safetensors(path: Path) -> Iterator[Any]:
    path.open("rb").close()  # its error says why, and safe_open's does not
    with safe_open(path, framework="np") as file:
        yield file


def _safetensors_reader(path: Path, name: str) -> Callable[[], Array]:
    def read() -> Array:
        with reading(path), _safetensors(path) as file:
            return _floats(file.get_tensor(name))

    return read


def _floats(values: NDArray[Any]) -> Array:
    """Any numbers as float32; two bytes without a type are bfloat16, as np.save writes them."""
    if values.dtype == np.dtype("V2"):
        values = values.view(ml_dtypes.bfloat16)
    if np.iscomplexobj(values):
        raise ValueError("It has complex numbers.")
    return values.astype(np.float32, copy=False)


def _reason(path: Path, error: Exception) -> str:
    """Why a file cannot be read, with its real kind where that is known."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."
    with path.open("rb") as file:
        start = file.read(32).lstrip()
    if start.startswith(b"version https://git-lfs"):
        return "It is a pointer of Git LFS; expected the file itself, as git lfs pull fetches it."
    if start.startswith((b"<!", b"<html")):
        return "It is a web page; expected the file itself."
    return " ".join(str(error).split())[:300] or "It is empty."
