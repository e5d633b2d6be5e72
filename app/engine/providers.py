"""ONNX Runtime's execution providers: their names, their options, and the libraries that a GPU's needs.

The libraries come from Python's own wheels, without a system-wide CUDA. Knows nothing of sessions.
"""

import ctypes
import importlib.util
import io
import os
import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from app.errors import EngineError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

_DRIVER = "libcuda.so.1"
_TENSORRT = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")
_FATAL = 4  # ONNX Runtime's severity: what it would print ends up in our one line

Providers = list[tuple[str, dict[str, str]]]  # in order of preference, each with its options


@dataclass(frozen=True)
class Gpu:
    """Which GPU, and how much of its memory one instance may take (0: as much as there is)."""

    device_id: int = 0
    memory_limit_bytes: int = 0
    tensorrt_cache: Path | None = None


def is_cpu_alone(providers: Providers) -> bool:
    """Whether these leave a graph to the CPU, and to nothing else."""
    return [name for name, _ in providers] == [PROVIDERS["cpu"]]


def cuda(gpu: Gpu) -> Providers:
    """A fixed arena, float32 that stays float32, and every run captured as a CUDA graph and replayed."""
    return [(PROVIDERS["cuda"], {**_cuda_options(gpu), "enable_cuda_graph": "1"})]


def tensorrt(gpu: Gpu, *, fp16: bool, shape: tuple[str, int, int], max_batch_size: int) -> Providers:
    """One engine for batches of 1 to `max_batch_size`, built once and kept on disk; CUDA runs what it leaves over.

    `shape`: the input's name, S, P*P*C. No CUDA graphs: TensorRT's provider keeps one for each session, whatever the
    batch size, and would replay that.

    Raises: EngineError where the folder for engines cannot be made.
    """
    name, num_patches, patch_bytes = shape
    cache = str(_made(gpu.tensorrt_cache or default_cache()))
    largest = f"{name}:{max_batch_size}x{num_patches}x{patch_bytes}"
    options = {
        "device_id": str(gpu.device_id),
        "trt_fp16_enable": "1" if fp16 else "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": cache,
        "trt_profile_min_shapes": f"{name}:1x{num_patches}x{patch_bytes}",
        "trt_profile_opt_shapes": largest,
        "trt_profile_max_shapes": largest,
        "trt_cuda_graph_enable": "0",
    }
    return [(PROVIDERS["tensorrt"], options), (PROVIDERS["cuda"], _cuda_options(gpu))]


def default_cache() -> Path:
    """Where TensorRT's engines lie: a folder of this service in the user's cache folder."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (caches if caches.is_absolute() else Path("~/.cache").expanduser()) / "mixer-serve" / "tensorrt"


def _made(folder: Path) -> Path:
    """The folder, made where it is not there: TensorRT's provider makes no parents."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(f"MIXER_TENSORRT_CACHE is {folder}, which cannot be made: {error.strerror}.") from error
    return folder


def _cuda_options(gpu: Gpu) -> dict[str, str]:
    options = {
        "device_id": str(gpu.device_id),
        "arena_extend_strategy": "kSameAsRequested",  # its size after the largest batch is its size for good
        "use_tf32": "0",
    }
    return {**options, "gpu_mem_limit": str(gpu.memory_limit_bytes)} if gpu.memory_limit_bytes else options


def load_libraries(provider: str) -> list[str]:
    """Load what "cuda" or "tensorrt" needs. Returns the names of what is missing."""
    onnxruntime.set_default_logger_severity(_FATAL)
    missing = _load_cuda()
    if provider == "tensorrt":
        missing += [name for name in _TENSORRT if not _loads(_in_wheel("tensorrt_libs", name))]
    if not _loads(_DRIVER):
        missing.append(f"an NVIDIA driver ({_DRIVER})")
    return missing


def _load_cuda() -> list[str]:
    if not hasattr(onnxruntime, "preload_dlls"):  # only the GPU build has it
        return []
    with redirect_stdout(io.StringIO()) as printed:
        onnxruntime.preload_dlls()
    return list(dict.fromkeys(Path(name).name for name in re.findall(r"Failed to load (\S+?):", printed.getvalue())))


def _in_wheel(package: str, name: str) -> str:
    """The library inside an installed package, else its bare name, for the system's own search."""
    spec = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations if spec else None) or []]
    return next((str(folder / name) for folder in folders if (folder / name).is_file()), name)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True
