"""The seam to ONNX Runtime: a session that is proved to run on the provider it was asked for. Knows nothing of specs.

A CUDA provider whose libraries fail to load still leaves a working CPU session, and the list of available providers
still names CUDA: only the session itself tells.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

import onnxruntime

from app.engine import int8_probe
from app.engine.gpu_buffers import Memory, OrtMemory
from app.engine.providers import PROVIDERS, Providers, is_cpu_alone, load_libraries
from app.errors import EngineError

_FATAL = 4  # ONNX Runtime's severity: nothing below it is printed; errors are raised and told in our words
_REMEDIES = {
    "cuda": "Run scripts/install gpu on a machine with an NVIDIA GPU, or set MIXER_PROVIDER=cpu.",
    "tensorrt": (
        "Run scripts/install gpu, and install TensorRT 10, on a machine with an NVIDIA GPU, "
        "or set MIXER_PROVIDER=cuda or cpu."
    ),
}


class Session(Protocol):
    """The part of onnxruntime.InferenceSession that an engine uses."""

    def run(self, output_names: Sequence[str], inputs: Mapping[str, object]) -> Sequence[object]:
        """One run."""
        ...

    def io_binding(self) -> Any:
        """A binding of inputs and outputs to fixed memory."""
        ...

    def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
        """One run from and to what is bound."""
        ...

    def get_providers(self) -> Sequence[str]:
        """The providers that really run the graph, first one first."""
        ...

    def get_provider_graph_assignment_info(self) -> Sequence[Any]:
        """The parts of the graph, each with the provider that took it."""
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
    """The seam to ONNX Runtime: what it claims to have, how a session is opened, where its memory comes from.

    int8_products: what its products of bytes come to on this processor.
    """

    available: Callable[[], Sequence[str]]
    preload: Callable[[str], Sequence[str]]
    open: Callable[[Path, onnxruntime.SessionOptions, Providers], Session]
    memory: Callable[[int], Memory]
    int8_products: Callable[[], int8_probe.Products] = int8_probe.probe


def _open(path: Path, options: onnxruntime.SessionOptions, providers: Providers) -> Session:
    onnxruntime.disable_telemetry_events()  # on by default in its own builds; cli/main.py says so by environment, too
    if is_cpu_alone(providers):
        _register_shared_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    # With its own fallback, a session that fails on a GPU would print so and carry on with the CPU.
    session = onnxruntime.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)
    return cast(Session, session)


@cache
def _register_shared_arena() -> None:
    """One memory arena for the activations of all CPU sessions of this process.

    Each would keep its own at its own peak: 7 MB with the default model, for every bundle that is served.
    """
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


ONNX_RUNTIME = Runtime(
    onnxruntime.get_available_providers, load_libraries, _open, lambda device_id: OrtMemory("cuda", device_id)
)


@dataclass(frozen=True)
class CpuThreads:
    """CPU threads of one run. `spin`: whether they wait busily for work, which takes a core from others."""

    intra_op: int = 1
    spin: bool = False

    def session_options(self) -> onnxruntime.SessionOptions:
        """The options of a session that runs in these threads and prints nothing."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.intra_op  # the default counts CPUs a container may not use
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL
        for pool in ("intra_op", "inter_op"):
            options.add_session_config_entry(f"session.{pool}.allow_spinning", "1" if self.spin else "0")
        return options


def open_session(path: Path, provider: str, device_id: int, threads: CpuThreads, runtime: Runtime) -> Session:
    """A session of the graph at `path` whose first provider really is `provider`, a key of PROVIDERS.

    Raises: EngineError in one line: what is missing and what to do.
    """
    name = PROVIDERS[provider]
    if name not in runtime.available():
        raise EngineError(
            f"provider is {provider}; this ONNX Runtime offers {', '.join(runtime.available())}, not {name}. "
            f"scripts/install gpu puts one that does in its place; or set MIXER_PROVIDER=cpu."
        )
    options = {} if provider == "cpu" else {"device_id": str(device_id)}
    missing = [] if provider == "cpu" else runtime.preload(provider)
    try:
        session = runtime.open(path, threads.session_options(), [(name, options)])
    except Exception as error:
        if missing:
            raise EngineError(f"{_did_not_load(provider, missing)} {_REMEDIES[provider]}") from error
        raise EngineError(f"{path} cannot be opened on {name}: {one_line(error)}") from error
    running = list(session.get_providers())
    if running[:1] != [name]:
        raise EngineError(
            f"{_did_not_load(provider, missing)} The graph would run on {', '.join(running)}. {_REMEDIES[provider]}"
        )
    return session


def open_held(path: Path, providers: Providers, threads: CpuThreads, runtime: Runtime) -> Session:
    """A session of a graph that `open_session` has opened on a GPU, every node of it held to `providers`.

    Raises: EngineError where a node would run on the CPU, or the first provider takes none.
    """
    name = providers[0][0]
    settings = threads.session_options()
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        session = runtime.open(path, settings, providers)
    except Exception as error:
        raise EngineError(f"{path} does not run on {name} alone: {one_line(error)}") from error
    takers = {part.ep_name for part in session.get_provider_graph_assignment_info()}
    if name not in takers:
        raise EngineError(f"{path}: {name} takes none of its operations; {', '.join(sorted(takers))} would run them.")
    return session


def one_line(error: Exception) -> str:
    """An error's message without its line breaks, cut at 400 characters."""
    return " ".join(str(error).split())[:400]


def _did_not_load(provider: str, missing: Sequence[str]) -> str:
    named = ", ".join(missing) or "an NVIDIA GPU"
    return f"provider is {provider}: {PROVIDERS[provider]} did not load. Missing: {named}."
