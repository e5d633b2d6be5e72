"""A graph that has proved itself: provider, precision, shapes, warm-up. Knows nothing of pictures.

It fails loud: a provider that was asked for and does not really run the graph stops the start. `auto` may fall back,
and Engine.fallback then says why.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from app.engine import not_a_bundle
from app.engine.cuda_graphs import BatchBucketRunner
from app.engine.instance import Instance
from app.engine.metadata import PRECISIONS, embedding_dim, expect_interface
from app.engine.precision import open_best
from app.engine.providers import PROVIDERS, Gpu, Providers, cuda, tensorrt
from app.engine.runners import INPUT, Outputs, Patches, SessionRunner
from app.engine.session import ONNX_RUNTIME, CpuThreads, Runtime, one_line, open_held, open_session
from app.errors import EngineError
from app.system.cpu_limits import instances_and_threads, usable_cpus
from model.spec import ModelSpec, Precision

GPU_INSTANCES = 2  # while one computes, the other copies
_GPU_BATCH_SIZE = 64
_CPU_BATCH_SIZE = 16
_CACHED_BYTES = 2 << 20  # of a run's widest float32 array: much larger ones fall out of the cache, and cost speed

log = logging.getLogger("mixer.engine")


@dataclass(frozen=True)
class EngineOptions:
    """What to open. `provider` and `precision` may be "auto"; 0 instances, threads or pictures in a run are chosen.

    `bundle_key`: what whoever opens a bundle verifies it with, before an engine is opened. The rest is for a GPU.
    """

    bundle: Path
    provider: str = "auto"
    precision: str = "auto"
    instances: int = 0
    intra_op_threads: int = 0
    max_batch_size: int = 0
    device_id: int = 0
    gpu_memory_bytes: int = 0
    tensorrt_cache: Path | None = None
    bundle_key: Path | None = None


class Engine:
    """One graph, ready to run on the instances of its `pool`, which an executor may use instead of `run`.

    `run` may be called from `instances` threads at once; more wait for each other. `pads`: whether runs are padded to
    batch buckets. `embedding_dim`: C of the embedding of a picture; None where the graph gives none.
    `intra_op_threads`: of a run on a CPU.
    """

    def __init__(
        self,
        pool: Sequence[Instance],
        spec: ModelSpec,
        *,
        provider: str,
        precision: Precision,
        fallback: str | None,
        precision_reason: str = "",
        max_batch_size: int = _CPU_BATCH_SIZE,
        embedding_dim: int | None = None,
        intra_op_threads: int = 1,
    ) -> None:
        self.spec = spec
        self.intra_op_threads = intra_op_threads
        self.provider = provider
        self.precision = precision
        self.precision_reason = precision_reason
        self.pool = tuple(pool)
        self.instances = len(self.pool)
        self.pads = provider != "cpu"
        self.fallback = fallback
        self.max_batch_size = max_batch_size
        self.embedding_dim = embedding_dim
        self._idle: SimpleQueue[Instance] = SimpleQueue()
        for instance in self.pool:
            self._idle.put(instance)

    def run(self, patches: Sequence[Patches]) -> Outputs:
        """The outputs of n pictures, each uint8 [S, P*P*C]."""
        instance = self._idle.get()
        run = instance.runner.run
        try:
            return instance.call(run, patches) if self.pads else run(patches)  # on a CPU, a hand-over would only cost
        finally:
            self._idle.put(instance)

    def warm_up(self) -> None:
        """Run the smallest and the largest batch once in each instance, so that no client pays for first-time work.

        Raises: EngineError where the graph does not run, or does not answer as its spec says.
        """
        blank = np.zeros((self.spec.num_patches, self.spec.patch_bytes), dtype=np.uint8)
        first_of_each = {id(instance.runner): instance for instance in reversed(self.pool)}
        for instance in first_of_each.values():
            for batch_size in sorted({1, self.max_batch_size}):
                try:
                    outputs = instance.call(instance.runner.run, [blank] * batch_size)
                except Exception as error:
                    raise EngineError(f"The graph does not run a batch of {batch_size}: {one_line(error)}") from error
                self._expect_sound(outputs, batch_size)

    def _expect_sound(self, outputs: Outputs, batch_size: int) -> None:
        """Raises EngineError where the outputs of blank images have other shapes than they should, or no numbers."""
        logits, embedding = outputs
        expected = (batch_size, self.spec.num_classes)
        if logits.shape != expected:
            raise EngineError(f"The graph answers a batch of {batch_size} with {logits.shape}; expected {expected}.")
        if not np.isfinite(logits).all():
            raise EngineError(f"The graph answers a blank image with {logits[0]}; expected finite numbers.")
        found = None if embedding is None else embedding.shape
        expected_embedding = None if self.embedding_dim is None else (batch_size, self.embedding_dim)
        if found != expected_embedding:
            raise EngineError(
                f"The graph gives a batch of {batch_size} an embedding of {found}; expected {expected_embedding}."
            )
        if embedding is not None and not np.isfinite(embedding).all():
            raise EngineError("The embedding of a blank image is not all finite numbers; expected that.")


def open_engine(options: EngineOptions, runtime: Runtime = ONNX_RUNTIME) -> Engine:
    """Open the best graph of a bundle that the options allow, and warm it up.

    Raises: EngineError in one line: what is wrong and what was expected.
    """
    graphs = find_graphs(options.bundle)
    if options.provider != "auto":
        return _open_on(options.provider, options, graphs, runtime)
    if PROVIDERS["cuda"] not in runtime.available():
        return _open_on("cpu", options, graphs, runtime)
    try:
        return _open_on("cuda", options, graphs, runtime)
    except EngineError as error:
        log.warning("falling back to the CPU: %s", error)
        return _open_on("cpu", options, graphs, runtime, fallback=str(error))


def find_graphs(bundle: Path) -> dict[Precision, Path]:
    """The graphs of a bundle folder by precision; a single .onnx file counts by the precision in its name, else fp32.

    Raises: EngineError where there is none, with what is there instead.
    """
    try:
        reason = not_a_bundle.why(bundle)
        if reason is not None:
            raise EngineError(reason)
        if bundle.is_file():
            return {next((p for p in PRECISIONS if p in bundle.stem), "fp32"): bundle}
        graphs = {precision: bundle / f"{precision}.onnx" for precision in PRECISIONS}
        found = {precision: path for precision, path in graphs.items() if path.is_file()}
    except OSError as error:
        raise EngineError(f"The bundle {bundle} cannot be read: {error.strerror}.") from error
    if not found:
        raise EngineError(not_a_bundle.has_no_graph(bundle))
    return found


def _open_on(
    provider: str,
    options: EngineOptions,
    graphs: Mapping[Precision, Path],
    runtime: Runtime,
    fallback: str | None = None,
) -> Engine:
    instances, threads = (
        _instances_and_threads(options) if provider == "cpu" else (options.instances or GPU_INSTANCES, CpuThreads())
    )
    path, session, spec, precision, reason = open_best(
        graphs,
        options.precision,
        provider,
        lambda path: open_session(path, provider, options.device_id, threads, runtime),
        runtime.int8_products,
    )
    expect_interface(session, spec, path)
    dim = embedding_dim(session)
    options = replace(options, max_batch_size=options.max_batch_size or best_batch_size(provider, spec))
    if provider == "cpu":
        runner = SessionRunner(session, dim)
        pool = [Instance(lambda: runner) for _ in range(instances)]
    else:
        del session  # it has shown that the provider runs, and makes room for those that serve
        providers = _gpu_providers(provider, options, spec, precision)
        pool = [_gpu_instance(path, providers, threads, spec, options, runtime, dim) for _ in range(instances)]
    engine = Engine(
        pool,
        spec,
        provider=provider,
        precision=precision,
        precision_reason=reason,
        fallback=fallback,
        max_batch_size=options.max_batch_size,
        embedding_dim=dim,
        intra_op_threads=threads.intra_op,
    )
    engine.warm_up()
    return engine


def best_batch_size(provider: str, spec: ModelSpec) -> int:
    """The most pictures in a run that make it faster. On a CPU that is few, and one for a large network.

    There, a run of one picture fills the vector units as well as one of many, and is still in the cache.
    """
    if provider != "cpu":
        return _GPU_BATCH_SIZE
    if spec.widest_activation is None:
        return _CPU_BATCH_SIZE
    return math.ceil(_CACHED_BYTES / (4 * spec.widest_activation))


def _instances_and_threads(options: EngineOptions) -> tuple[int, CpuThreads]:
    instances, threads = instances_and_threads(usable_cpus(), options.instances, options.intra_op_threads)
    return instances, CpuThreads(threads, spin=instances == 1 and threads > 1)


def _gpu_providers(provider: str, options: EngineOptions, spec: ModelSpec, precision: Precision) -> Providers:
    gpu = Gpu(options.device_id, options.gpu_memory_bytes, options.tensorrt_cache)
    if provider == "cuda":
        return cuda(gpu)
    shape = (INPUT, spec.num_patches, spec.patch_bytes)
    return tensorrt(gpu, fp16=precision == "fp16", shape=shape, max_batch_size=options.max_batch_size)


def _gpu_instance(
    path: Path,
    providers: Providers,
    threads: CpuThreads,
    spec: ModelSpec,
    options: EngineOptions,
    runtime: Runtime,
    dim: int | None,
) -> Instance:
    session = open_held(path, providers, threads, runtime)
    memory = runtime.memory(options.device_id)
    return Instance(lambda: BatchBucketRunner(session, spec, options.max_batch_size, memory, dim))
