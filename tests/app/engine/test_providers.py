"""The options of each provider, and where TensorRT keeps its engines."""

from pathlib import Path

import pytest

from app.engine.providers import Gpu, cuda, default_cache, tensorrt
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
