"""The seam to ONNX Runtime: a session that is proved to run on the provider it was asked for. Knows nothing of specs.

A CUDA provider whose libraries fail to load still leaves a working CPU session, and the list of available providers
still names CUDA: only the session itself tells.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import onnxruntime

from app.errors import EngineError

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_FATAL = 4  # ONNX Runtime's severity: nothing below it is printed; errors are raised and told in our words


class Session(Protocol):
    """The part of onnxruntime.InferenceSession that an engine uses."""

    def run(self, output_names: Sequence[str], inputs: Mapping[str, object]) -> Sequence[object]:
        """One run."""
        ...

    def get_providers(self) -> Sequence[str]:
        """The providers that really run the graph, first one first."""
        ...

    def get_modelmeta(self) -> Any:
        """The graph's metadata."""
        ...

    def get_inputs(self) -> Sequence[Any]:
        """The graph's inputs."""
        ...

    def get_outputs(self) -> Sequence[Any]:
        """The graph's outputs."""
        ...


@dataclass(frozen=True)
class Runtime:
    """The seam to ONNX Runtime: what it claims to have, and how a session is opened."""

    available: Callable[[], Sequence[str]]
    preload: Callable[[], Sequence[str]]
    open: Callable[[Path, onnxruntime.SessionOptions, Sequence[str]], Session]


def _open(path: Path, options: onnxruntime.SessionOptions, providers: Sequence[str]) -> Session:
    onnxruntime.disable_telemetry_events()  # on by default in its own builds; cli.py says so by environment, too
    return cast(Session, onnxruntime.InferenceSession(str(path), options, providers=list(providers)))


def _preload() -> list[str]:
    """Load CUDA and cuDNN from the gpu extra's own wheels. Returns the names of the libraries that are missing."""
    onnxruntime.set_default_logger_severity(_FATAL)  # what it would print ends up in our one line
    if not hasattr(onnxruntime, "preload_dlls"):  # only the GPU build has it
        return []
    with redirect_stdout(io.StringIO()) as printed:
        onnxruntime.preload_dlls()
    return re.findall(r"Failed to load (\S+?):", printed.getvalue())


ONNX_RUNTIME = Runtime(onnxruntime.get_available_providers, _preload, _open)


def open_session(path: Path, provider: str, intra_op_num_threads: int, runtime: Runtime) -> Session:
    """A session of the graph at `path` that really runs on `provider` ("cpu" or "cuda"), every node of it.

    Raises: EngineError in one line: what is missing and what to do.
    """
    name = PROVIDERS[provider]
    if name not in runtime.available():
        raise EngineError(
            f"provider is {provider}; this ONNX Runtime offers {', '.join(runtime.available())}, not {name}. "
            f"Install mixer-serve[gpu] in place of [cpu], or set MIXER_PROVIDER=cpu."
        )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = intra_op_num_threads  # the default counts CPUs a container may not use
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _FATAL
    missing = runtime.preload() if provider == "cuda" else []
    try:
        session = runtime.open(path, settings, [name])
    except Exception as error:
        raise EngineError(f"{path} cannot be opened on {name}: {one_line(error)}") from error
    if list(session.get_providers())[:1] != [name]:
        raise EngineError(
            f"provider is {provider}: {name} did not load, and the graph would run on "
            f"{', '.join(session.get_providers())}. Missing: {', '.join(missing) or 'an NVIDIA driver or GPU'}. "
            f"Install mixer-serve[gpu] on a machine with an NVIDIA GPU, or set MIXER_PROVIDER=cpu."
        )
    return session if provider == "cpu" else _without_cpu_nodes(path, settings, name, runtime)


def _without_cpu_nodes(path: Path, settings: onnxruntime.SessionOptions, name: str, runtime: Runtime) -> Session:
    """The same session again, with every node held to its provider."""
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        return runtime.open(path, settings, [name])
    except Exception as error:
        raise EngineError(f"{path} has operations that {name} leaves to the CPU: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """An error's message without its line breaks, cut at 400 characters."""
    return " ".join(str(error).split())[:400]
