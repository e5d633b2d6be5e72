"""What a GPU's provider needs is loaded from Python's wheels, and what is missing is named and not printed."""

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from app.engine import libraries
from app.engine.libraries import load_libraries

DRIVER = "an NVIDIA driver (libcuda.so.1)"
TENSORRT = ["libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10"]


@pytest.fixture(autouse=True)
def severity_put_back() -> Iterator[None]:
    yield
    onnxruntime.set_default_logger_severity(2)


class Machine:
    """A machine that has some libraries, by name or path."""

    def __init__(self, *libraries: str) -> None:
        self.libraries = libraries
        self.loaded: list[str] = []

    def load(self, name: str, mode: int = 0) -> Any:
        if name not in self.libraries:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        assert mode == ctypes.RTLD_GLOBAL  # the provider's own libraries look for these by name
        self.loaded.append(name)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine without any, under a build of ONNX Runtime that says so."""

    def preload_dlls() -> None:
        sys.stdout.write(
            "Failed to load /venv/nvidia/lib/libcudnn.so.9: cannot open shared object file\nread the manual\n"
        )
        sys.stdout.write("Failed to load libcudnn.so.9: cannot open shared object file\n")
        sys.stdout.write("Failed to load libcublas.so.13: cannot open shared object file\n")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload_dlls, raising=False)
    return machine(monkeypatch)


def machine(monkeypatch: pytest.MonkeyPatch, *present: str) -> Machine:
    made = Machine(*present)
    monkeypatch.setattr(ctypes, "CDLL", made.load)
    return made


@pytest.mark.usefixtures("bare")
def test_the_libraries_that_are_missing_are_named_and_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert load_libraries("cuda") == ["libcudnn.so.9", "libcublas.so.13", DRIVER]
    assert load_libraries("tensorrt") == ["libcudnn.so.9", "libcublas.so.13", *TENSORRT, DRIVER]
    assert capsys.readouterr() == ("", "")


def test_a_machine_that_has_all_lacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    has = machine(monkeypatch, "libcuda.so.1", *TENSORRT)
    assert load_libraries("cuda") == []
    assert load_libraries("tensorrt") == []
    assert has.loaded == ["libcuda.so.1", *TENSORRT, "libcuda.so.1"]


def test_tensorrt_is_taken_from_its_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tensorrt_libs"
    folder.mkdir()
    for name in ("__init__.py", *TENSORRT):
        (folder / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(libraries, "_load_cuda", list)
    has = machine(monkeypatch, "libcuda.so.1", *(str(folder / name) for name in TENSORRT))
    assert load_libraries("tensorrt") == []
    assert has.loaded == [*(str(folder / name) for name in TENSORRT), "libcuda.so.1"]


def test_a_build_without_a_gpu_has_nothing_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(onnxruntime, "preload_dlls", raising=False)
    machine(monkeypatch, "libcuda.so.1")
    assert load_libraries("cuda") == []
