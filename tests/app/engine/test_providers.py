"""The options of each provider, where TensorRT keeps its engines, and the libraries that a GPU's provider needs.

They are loaded from Python's wheels, and what is missing is named and not printed.
"""

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from app.engine import providers
from app.engine.providers import Gpu, cuda, default_cache, load_libraries, tensorrt
from app.errors import EngineError

ARENA = {"device_id": "2", "arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"}


def test_cuda_has_a_fixed_arena_exact_float32_and_captures_graphs() -> None:
    assert cuda(Gpu(2)) == [("CUDAExecutionProvider", {**ARENA, "enable_cuda_graph": "1"})]


def test_a_limit_of_memory_is_passed_on() -> None:
    ((_, options),) = cuda(Gpu(memory_limit_bytes=12345))
    assert (options["device_id"], options["gpu_mem_limit"]) == ("0", "12345")


@pytest.mark.parametrize(("fp16", "enabled"), [(True, "1"), (False, "0")])
def test_tensorrt_builds_one_engine_for_all_batches_and_keeps_it(fp16: bool, enabled: str, tmp_path: Path) -> None:
    (name, options), rest = tensorrt(
        Gpu(2, tensorrt_cache=tmp_path), fp16=fp16, shape=("patches", 4, 48), max_batch_size=32
    )
    assert name == "TensorrtExecutionProvider"
    assert options == {
        "device_id": "2",
        "trt_fp16_enable": enabled,
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(tmp_path),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(tmp_path),
        "trt_profile_min_shapes": "patches:1x4x48",
        "trt_profile_opt_shapes": "patches:32x4x48",
        "trt_profile_max_shapes": "patches:32x4x48",
        "trt_cuda_graph_enable": "0",
    }
    assert rest == ("CUDAExecutionProvider", ARENA)


def test_the_folder_is_made_with_its_parents_or_refused(tmp_path: Path) -> None:
    def keep_in(folder: Path) -> None:
        tensorrt(Gpu(tensorrt_cache=folder), fp16=False, shape=("patches", 4, 48), max_batch_size=1)

    keep_in(tmp_path / "a" / "b")
    keep_in(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=r"^MIXER_TENSORRT_CACHE is .*/file, which cannot be made: File exists\.$"):
        keep_in(tmp_path / "file")


def test_without_a_folder_of_its_own_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache() == tmp_path / ".cache" / "mixer-serve" / "tensorrt"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/not/allowed")
    assert default_cache() == tmp_path / ".cache" / "mixer-serve" / "tensorrt"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert default_cache() == tmp_path / "caches" / "mixer-serve" / "tensorrt"
    ((_, options), _) = tensorrt(Gpu(), fp16=False, shape=("patches", 4, 48), max_batch_size=1)
    assert options["trt_engine_cache_path"] == str(default_cache())


# --- libraries ---

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
    monkeypatch.setattr(providers, "_load_cuda", list)
    has = machine(monkeypatch, "libcuda.so.1", *(str(folder / name) for name in TENSORRT))
    assert load_libraries("tensorrt") == []
    assert has.loaded == [*(str(folder / name) for name in TENSORRT), "libcuda.so.1"]


def test_a_build_without_a_gpu_has_nothing_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(onnxruntime, "preload_dlls", raising=False)
    machine(monkeypatch, "libcuda.so.1")
    assert load_libraries("cuda") == []
