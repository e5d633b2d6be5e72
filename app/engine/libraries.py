"""The libraries that a GPU's execution provider needs, loaded from Python's own wheels. Knows nothing of graphs."""

import ctypes
import importlib.util
import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import onnxruntime

_DRIVER = "libcuda.so.1"
_TENSORRT = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")
_FATAL = 4  # ONNX Runtime's severity: what it would print ends up in our one line


def load_libraries(provider: str) -> list[str]:
    """Load what "cuda" or "tensorrt" needs, without a system-wide CUDA. Returns the names of what is missing."""
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
