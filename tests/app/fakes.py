"""Fakes at the seams of the service: a run and an observer for the batcher, a session for the engine."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from app.engine.engine import Engine
from app.engine.instance import Instance
from app.engine.metadata import embedding_dim
from app.engine.runners import Outputs, SessionRunner
from app.telemetry.metrics import Metrics
from model.spec import METADATA_KEY, PRECISION_KEY, ModelSpec


class Poison(Exception):
    """What a fake run raises for a poisoned item."""


class Happenings:
    """Something tests wait for: `changed()` wakes everybody who waits for a condition."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def changed(self) -> None:
        for condition, future in self._waiting:
            if not future.done() and condition():
                future.set_result(None)
        self._waiting = [(condition, future) for condition, future in self._waiting if not future.done()]

    async def until(self, condition: Callable[[], bool]) -> None:
        if not condition():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((condition, future))
            await future


class FakeRun(Happenings):
    """A run that answers item * 10, and raises Poison while a poisoned item is in the batch.

    Gated, each run waits until `release()` lets the oldest go, or for ever.
    """

    def __init__(self, *, gated: bool = False, poisoned: Sequence[object] = ()) -> None:
        super().__init__()
        self.batches: list[list[Any]] = []
        self.active = 0
        self.most_active = 0
        self.cancelled = 0
        self._gated = gated
        self._gates: list[asyncio.Event] = []
        self._poisoned = poisoned

    async def __call__(self, batch: list[Any]) -> list[Any]:
        self.batches.append(list(batch))
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        self.changed()
        try:
            await self._gate()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.active -= 1
        culprits = [item for item in batch if item in self._poisoned]
        if culprits:
            raise Poison(f"poisoned: {culprits}")
        return [item * 10 for item in batch]

    def release(self, count: int = 1) -> None:
        for _ in range(count):
            self._gates.pop(0).set()

    async def begun(self, count: int) -> None:
        """Until `count` runs have begun, all told."""
        await self.until(lambda: len(self.batches) >= count)

    async def _gate(self) -> None:
        if self._gated:
            gate = asyncio.Event()
            self._gates.append(gate)
            await gate.wait()


class RecordingObserver(Happenings):
    """Remembers everything a batcher says of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = self.in_flight = 0
        self.most_in_flight = 0
        self.ran_sizes: list[int] = []
        self.drops: list[tuple[str, str]] = []
        self.rejections: list[str] = []

    def depth(self, waiting: int, in_flight: int) -> None:
        self.waiting, self.in_flight = waiting, in_flight
        self.most_in_flight = max(self.most_in_flight, in_flight)
        self.changed()

    def ran(self, batch_size: int) -> None:
        self.ran_sizes.append(batch_size)
        self.changed()

    def dropped(self, stage: str, reason: str) -> None:
        self.drops.append((stage, reason))
        self.changed()

    def rejected(self, reason: str, count: int) -> None:
        self.rejections += [reason] * count
        self.changed()


class FakeRunner:
    """A runner that remembers the thread that made it, and runs nothing."""

    def __init__(self) -> None:
        self.made_in = threading.current_thread()

    def run(self, patches: Sequence[NDArray[np.uint8]]) -> Outputs:
        raise AssertionError("nothing is run")

    def padding(self, batch_size: int) -> int:
        return 0


class FakeSession:
    """An ONNX Runtime session that answers as told: `answer` maps patches uint8 [n, S, P*P*C] to logits [n, K].

    `embedding` maps them to its output of that name, [n, P*P*C]; without it, the graph has no such output.
    """

    def __init__(
        self,
        spec: ModelSpec,
        answer: Callable[[NDArray[np.uint8]], Any] | None = None,
        *,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        precision: str = "",
        metadata: Mapping[str, str] | None = None,
        embedding: Callable[[NDArray[np.uint8]], Any] | None = None,
    ) -> None:
        self._spec = spec
        self._metadata = {METADATA_KEY: spec.model_dump_json(), PRECISION_KEY: precision, **(metadata or {})}
        self._answer = answer or (lambda patches: np.zeros((len(patches), spec.num_classes), dtype=np.float32))
        self._providers = providers
        self._embedding = embedding
        self.batches: list[NDArray[np.uint8]] = []

    def run(self, output_names: Sequence[str], inputs: Mapping[str, object]) -> Sequence[object]:
        assert list(output_names) == [output.name for output in self.get_outputs()]
        patches = inputs["patches"]
        assert isinstance(patches, np.ndarray)
        self.batches.append(patches)
        return [self._answer(patches), *([] if self._embedding is None else [self._embedding(patches)])]

    def io_binding(self) -> Any:
        raise AssertionError("a session on a CPU binds nothing")

    def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
        raise AssertionError("a session on a CPU binds nothing")

    def get_provider_graph_assignment_info(self) -> Sequence[Any]:
        return [SimpleNamespace(ep_name=self._providers[0])]

    def get_providers(self) -> Sequence[str]:
        return self._providers

    def get_modelmeta(self) -> Any:
        return SimpleNamespace(custom_metadata_map=self._metadata)

    def get_inputs(self) -> Sequence[Any]:
        shape = ["batch", self._spec.num_patches, self._spec.patch_bytes]
        return [SimpleNamespace(name="patches", type="tensor(uint8)", shape=shape)]

    def get_outputs(self) -> Sequence[Any]:
        sizes = {"logits": self._spec.num_classes, "embedding": self._spec.patch_bytes}
        names = ["logits"] if self._embedding is None else list(sizes)
        return [SimpleNamespace(name=name, type="tensor(float)", shape=["batch", sizes[name]]) for name in names]


class FakeArray:
    """Memory on a device: as uninitialised as a real one, at one address for good."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._values: NDArray[Any] = np.full(shape, 123, dtype)

    def update_inplace(self, data: NDArray[Any]) -> None:
        assert (data.shape, data.dtype) == (self._values.shape, self._values.dtype)
        self._values[...] = data

    def numpy(self) -> NDArray[Any]:
        return self._values


class FakeMemory:
    """Remembers everything that was asked of it."""

    def __init__(self) -> None:
        self.hosts: list[NDArray[np.uint8]] = []
        self.arrays: list[FakeArray] = []

    def host(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        self.hosts.append(np.zeros(shape, dtype=np.uint8))
        return self.hosts[-1]

    def device(self, shape: tuple[int, ...], dtype: DTypeLike) -> FakeArray:
        self.arrays.append(FakeArray(shape, dtype))
        return self.arrays[-1]


class FakeBinding:
    """Inputs and outputs bound to memory, once."""

    def __init__(self) -> None:
        self.bound: dict[str, FakeArray] = {}

    def bind_ortvalue_input(self, name: str, value: FakeArray) -> None:
        assert name not in self.bound, f"{name} is bound again"
        self.bound[name] = value

    bind_ortvalue_output = bind_ortvalue_input


@dataclass(frozen=True)
class BoundRun:
    """A run of a FakeGpuSession: with which graph id, in which thread, and whether it captured."""

    graph_id: int
    thread: int
    captured: bool
    patches: NDArray[np.uint8]


class FakeGpuSession(FakeSession):
    """A session with CUDA graphs, as ONNX Runtime has them.

    The first run with a graph id captures the addresses that are bound then, for the thread that runs; later runs of
    that thread read and write there, whatever is bound. Graph id -1 runs what is bound. `replay` breaks the replays of
    the logits, `replay_embedding` those of the embedding.
    """

    def __init__(
        self,
        spec: ModelSpec,
        answer: Callable[[NDArray[np.uint8]], Any] | None = None,
        *,
        provider: str = "CUDAExecutionProvider",
        takers: Sequence[str] | None = None,
        replay: Callable[[NDArray[np.uint8]], Any] | None = None,
        precision: str = "",
        embedding: Callable[[NDArray[np.uint8]], Any] | None = None,
        replay_embedding: Callable[[NDArray[np.uint8]], Any] | None = None,
    ) -> None:
        providers = (provider, "CPUExecutionProvider")
        super().__init__(spec, answer or means_of_colors, providers=providers, precision=precision, embedding=embedding)
        self.runs: list[BoundRun] = []
        self.bindings: list[FakeBinding] = []
        self._takers = [provider] if takers is None else takers
        self._replay = replay or self._answer
        self._replay_embedding = replay_embedding or embedding
        self._graphs: dict[tuple[int, int], dict[str, FakeArray]] = {}

    def run(self, output_names: Sequence[str], inputs: Mapping[str, object]) -> Sequence[object]:
        raise AssertionError("a session with CUDA graphs is run from what is bound")

    def io_binding(self) -> FakeBinding:
        self.bindings.append(FakeBinding())
        return self.bindings[-1]

    def run_with_iobinding(self, iobinding: FakeBinding, run_options: Any = None) -> None:
        graph_id = int(run_options.get_run_config_entry("gpu_graph_id"))
        place = threading.get_ident(), graph_id
        captures = graph_id != -1 and place not in self._graphs
        if captures:
            self._graphs[place] = dict(iobinding.bound)
        bound = self._graphs.get(place, iobinding.bound)
        patches = bound["patches"].numpy().copy()
        self.runs.append(BoundRun(graph_id, place[0], captures, patches))
        replays = place in self._graphs and not captures
        answer = self._replay if replays else self._answer
        bound["logits"].update_inplace(np.asarray(answer(patches), np.float32))
        embedding = self._replay_embedding if replays else self._embedding
        if embedding is not None and "embedding" in bound:
            bound["embedding"].update_inplace(np.asarray(embedding(patches), np.float32))

    def get_provider_graph_assignment_info(self) -> Sequence[Any]:
        return [SimpleNamespace(ep_name=name) for name in self._takers]


class GatedSession(FakeSession):
    """Every run waits in its thread until `open_gate()`; tests await `entered`. Made inside the test's event loop."""

    def __init__(self, spec: ModelSpec, answer: Callable[[NDArray[np.uint8]], Any] | None = None) -> None:
        super().__init__(spec, answer or means_of_colors)
        self.entered = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._gate = threading.Event()

    def run(self, output_names: Sequence[str], inputs: Mapping[str, object]) -> Sequence[object]:
        self._loop.call_soon_threadsafe(self.entered.set)
        self._gate.wait(60)
        return super().run(output_names, inputs)

    def open_gate(self) -> None:
        self._gate.set()


class WatchedMetrics(Metrics, Happenings):
    """The service's metrics, and tests can wait for what the batcher says of itself."""

    def __init__(self) -> None:
        Metrics.__init__(self)
        Happenings.__init__(self)
        self.waiting = self.inside = 0
        self.given_up: list[tuple[str, str]] = []

    def depth(self, waiting: int, in_flight: int) -> None:
        super().depth(waiting, in_flight)
        self.waiting, self.inside = waiting, in_flight
        self.changed()

    def dropped(self, stage: str, reason: str) -> None:
        super().dropped(stage, reason)
        self.given_up.append((stage, reason))
        self.changed()

    def samples(self) -> dict[str, float]:
        """What a scrape reads: {'mixer_images_total{outcome="classified"}': 1.0, ...}."""
        return samples_of(self.render().decode())


def samples_of(text: str) -> dict[str, float]:
    """The values of a Prometheus text answer by name and labels, as they are written."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def means_of_colors(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the graph of color_bundle.py computes for colour pictures."""
    pixels = patches.reshape(len(patches), -1, 3).astype(np.float32)
    return np.asarray(pixels.mean(axis=1) * np.float32(10 / 255), dtype=np.float32)


def means_of_patches(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The embedding of the graph of color_bundle.py: the mean patch, float32 [n, P*P*C]."""
    return np.asarray(patches.astype(np.float32).mean(axis=1), dtype=np.float32)


def engine_of(session: FakeSession, spec: ModelSpec, *, instances: int = 1) -> Engine:
    """An engine over a fake session."""
    dim = embedding_dim(session)
    return Engine(
        [Instance(lambda: SessionRunner(session, dim)) for _ in range(instances)],
        spec,
        provider="cpu",
        precision="fp32",
        precision_reason="because",
        fallback=None,
        embedding_dim=dim,
    )
