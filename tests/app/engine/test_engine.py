"""An engine proves itself before it serves, and says in one line what is wrong."""

import logging
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from app.engine import engine as engine_module
from app.engine.engine import Engine, EngineOptions, best_batch_size, find_graphs, open_engine
from app.engine.gpu_buffers import OrtMemory
from app.engine.instance import Instance
from app.engine.providers import PROVIDERS, Providers
from app.engine.runners import Outputs
from app.engine.session import ONNX_RUNTIME, Runtime
from app.errors import EngineError
from model.spec import INT8_KERNELS_KEY, METADATA_KEY, PAIRS_FIT_INT16, PRECISION_KEY, Network
from tests.app.color_bundle import color_graph, color_spec, write_bundle
from tests.app.fakes import FakeGpuSession, FakeMemory, FakeSession, engine_of, means_of_colors, means_of_patches

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
SPEC = color_spec()
HELD = "session.disable_cpu_ep_fallback"


@dataclass(frozen=True)
class Opening:
    """How a session was opened."""

    path: Path
    options: onnxruntime.SessionOptions
    providers: list[tuple[str, dict[str, str]]]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.providers]

    def entry(self, key: str) -> str | None:
        """A session's config entry."""
        try:
            return str(self.options.get_session_config_entry(key))
        except Exception:  # noqa: BLE001 -- ONNX Runtime's own way to say that there is no such entry
            return None


class FakeRuntime:
    """An ONNX Runtime that offers `available` and opens what `sessions` says by provider.

    That is a session, something that makes one, or an error. `held` is what it opens on a GPU when no node may stay
    on the CPU, where that is something else.
    """

    def __init__(self, available: Sequence[str], *, missing: Sequence[str] = (), **sessions: Any) -> None:
        self.available = available
        self.missing = missing
        self.sessions = sessions
        self.preloads: list[str] = []
        self.opened: list[Opening] = []
        self.served: list[Any] = []
        self.memories: list[tuple[int, FakeMemory]] = []

    def seam(self) -> Runtime:
        return Runtime(lambda: self.available, self._preload, self._open, self._memory)

    def _preload(self, provider: str) -> Sequence[str]:
        self.preloads.append(provider)
        return self.missing

    def _memory(self, device_id: int) -> FakeMemory:
        self.memories.append((device_id, FakeMemory()))
        return self.memories[-1][1]

    def _open(self, path: Path, options: onnxruntime.SessionOptions, providers: Providers) -> Any:
        opening = Opening(path, options, list(providers))
        self.opened.append(opening)
        outcome = self.sessions[next(name for name, full in PROVIDERS.items() if full == opening.names[0])]
        if opening.entry(HELD) == "1":
            outcome = self.sessions.get("held", outcome)
        if isinstance(outcome, Exception):
            raise outcome
        self.served.append(outcome() if callable(outcome) else outcome)
        return self.served[-1]


def gpu_session(**breakage: Any) -> FakeGpuSession:
    return FakeGpuSession(SPEC, **breakage)


def tensorrt_session(**breakage: Any) -> FakeGpuSession:
    return FakeGpuSession(SPEC, provider=TENSORRT, **breakage)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A bundle in all precisions."""
    return write_bundle(tmp_path / "three", SPEC, ("fp32", "fp16", "int8"))


def refusal(bundle: Path, runtime: Runtime = ONNX_RUNTIME, **options: Any) -> str:
    """The one line with which an engine refuses to open."""
    with pytest.raises(EngineError) as refused:
        open_engine(EngineOptions(bundle, **{"provider": "cpu", **options}), runtime)
    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)
    return str(refused.value)


# --- what works ---


def test_an_engine_answers_with_the_graphs_own_logits(engine: Engine) -> None:
    red, blue = np.tile(np.uint8([255, 0, 0]), (4, 16)), np.tile(np.uint8([0, 0, 255]), (4, 16))
    logits = engine.run([red, blue]).logits
    assert logits.dtype == np.float32
    assert logits == pytest.approx(np.array([[10, 0, 0], [0, 0, 10]]), abs=1e-5)


def test_an_engine_gives_the_graphs_own_embeddings_and_says_their_size(engine: Engine) -> None:
    batch = list(np.random.default_rng(0).integers(0, 256, (3, 4, 48), dtype=np.uint8))
    embedding = engine.run(batch).embedding
    assert embedding is not None
    assert (embedding.dtype, embedding.shape, engine.embedding_dim) == (np.float32, (3, 48), 48)
    assert embedding == pytest.approx(means_of_patches(np.stack(batch)))


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_a_graph_without_embeddings_serves_as_before(provider: str, bundle: Path) -> None:
    session = FakeSession(SPEC, means_of_colors) if provider == "cpu" else gpu_session
    runtime = FakeRuntime([CUDA, CPU], **{provider: session})
    engine = open_engine(EngineOptions(bundle, provider=provider, max_batch_size=2), runtime.seam())
    found = engine.run([np.ones((4, 48), dtype=np.uint8)])
    assert (found.logits.shape, found.embedding, engine.embedding_dim) == ((1, 3), None, None)


def test_an_engine_says_what_it_is(engine: Engine) -> None:
    assert (engine.provider, engine.precision, engine.instances, engine.fallback) == ("cpu", "fp32", 2, None)
    assert engine.spec == SPEC


INT8_METADATA = {METADATA_KEY: SPEC.model_dump_json(), INT8_KERNELS_KEY: PAIRS_FIT_INT16}


def test_one_file_is_a_bundle_too(tmp_path: Path) -> None:
    file = tmp_path / "colours-int8.onnx"
    file.write_bytes(color_graph(SPEC, metadata=INT8_METADATA))
    assert open_engine(EngineOptions(file, provider="cpu")).precision == "int8"


def test_the_precision_that_a_graph_states_counts_more_than_its_name(tmp_path: Path) -> None:
    file = tmp_path / "int8.onnx"
    file.write_bytes(color_graph(SPEC))
    assert open_engine(EngineOptions(tmp_path, provider="cpu")).precision == "fp32"
    file.write_bytes(color_graph(SPEC, metadata={**INT8_METADATA, PRECISION_KEY: "fp8"}))
    assert open_engine(EngineOptions(tmp_path, provider="cpu")).precision == "int8"


@pytest.mark.parametrize(
    ("cpus", "asked", "instances", "threads", "spin"),
    [
        (6, {}, 6, 1, "0"),
        (6, {"instances": 2}, 2, 3, "0"),
        (6, {"intra_op_threads": 3}, 2, 3, "0"),
        (6, {"instances": 1}, 1, 6, "1"),
        (1, {}, 1, 1, "0"),
        (6, {"instances": 4, "intra_op_threads": 2}, 4, 2, "0"),
    ],
)
def test_instances_and_threads_share_the_cpus_and_only_a_instance_alone_waits_busily(
    cpus: int,
    asked: dict[str, int],
    instances: int,
    threads: int,
    spin: str,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_module, "usable_cpus", lambda: cpus)
    runtime = FakeRuntime([CPU], cpu=FakeSession(SPEC))
    engine = open_engine(EngineOptions(bundle, provider="cpu", **asked), runtime.seam())
    (opening,) = runtime.opened
    assert opening.path == bundle / "fp32.onnx"
    assert opening.providers == [(CPU, {})]
    assert engine.instances == instances
    assert (opening.options.intra_op_num_threads, opening.options.inter_op_num_threads) == (threads, 1)
    assert opening.entry("session.intra_op.allow_spinning") == spin
    assert opening.entry("session.inter_op.allow_spinning") == spin
    assert opening.entry(HELD) is None
    assert runtime.preloads == []


def test_the_smallest_and_the_largest_batch_are_run_before_the_engine_is_handed_out(bundle: Path) -> None:
    session = FakeSession(SPEC)
    open_engine(EngineOptions(bundle, provider="cpu", max_batch_size=5), FakeRuntime([CPU], cpu=session).seam())
    assert sorted(len(batch) for batch in session.batches) == [1, 5]
    assert {batch.dtype for batch in session.batches} == {np.dtype(np.uint8)}


def test_a_instance_goes_back_even_when_its_run_fails() -> None:
    def answer(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        if patches.any():
            raise RuntimeError("poison")
        return np.zeros((len(patches), 3), dtype=np.float32)

    engine = engine_of(FakeSession(SPEC, answer), SPEC, instances=1)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="poison"):
            engine.run([np.ones((4, 48), dtype=np.uint8)])
    assert engine.run([np.zeros((4, 48), dtype=np.uint8)]).logits.shape == (1, 3)


class ExclusiveRunner:
    """Waits at a gate in every run, and notes a second run that begins before the first has ended."""

    def __init__(self, entered: threading.Semaphore, gate: threading.Event) -> None:
        self.runs = self.collisions = 0
        self._entered, self._gate = entered, gate
        self._busy = threading.Lock()

    def run(self, patches: Sequence[NDArray[np.uint8]]) -> Outputs:
        free = self._busy.acquire(blocking=False)
        self.collisions += not free
        self.runs += 1
        self._entered.release()
        self._gate.wait(60)
        if free:
            self._busy.release()
        return Outputs(np.zeros((len(patches), 3), dtype=np.float32))

    def padding(self, batch_size: int) -> int:
        return 0


def test_each_instance_is_given_to_one_run_at_a_time() -> None:
    entered, gate = threading.Semaphore(0), threading.Event()
    runners = [ExclusiveRunner(entered, gate) for _ in range(2)]
    engine = Engine(
        [Instance(partial(next, iter([runner]))) for runner in runners],
        SPEC,
        provider="cuda",
        precision="fp32",
        fallback=None,
    )
    callers = [threading.Thread(target=engine.run, args=([np.zeros((4, 48), dtype=np.uint8)],)) for _ in range(6)]
    for caller in callers:
        caller.start()
    for _ in runners:
        assert entered.acquire(timeout=60)
    assert [runner.runs for runner in runners] == [1, 1]
    gate.set()
    for caller in callers:
        caller.join()
    assert sum(runner.runs for runner in runners) == 6
    assert [runner.collisions for runner in runners] == [0, 0]


def test_on_a_cpu_a_batch_is_not_padded(engine: Engine) -> None:
    assert [engine.pool[0].runner.padding(count) for count in (1, 5, 33)] == [0, 0, 0]


# --- which precision ---


def test_an_engine_says_why_its_graph_was_chosen(three: Path) -> None:
    assert open_engine(EngineOptions(three, provider="cpu", precision="fp16")).precision_reason == "fp16 was asked for"


def test_an_int8_graph_that_this_processor_computes_wrongly_is_not_opened(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "alone", SPEC, ("int8",))
    runtime = replace(ONNX_RUNTIME, int8_products=lambda: "wrong")
    assert "int8.onnx would be wrong on this processor" in refusal(bundle, runtime)


def test_graphs_are_found_by_their_names(three: Path, bundle: Path) -> None:
    assert find_graphs(three) == {p: three / f"{p}.onnx" for p in ("fp32", "fp16", "int8")}
    assert find_graphs(bundle / "fp32.onnx") == {"fp32": bundle / "fp32.onnx"}


# --- which provider ---


def test_auto_takes_the_cpu_where_there_is_nothing_else(bundle: Path) -> None:
    engine = open_engine(EngineOptions(bundle), FakeRuntime([CPU], cpu=FakeSession(SPEC)).seam())
    assert (engine.provider, engine.fallback) == ("cpu", None)


def test_auto_takes_the_gpu_where_there_is_one_and_never_tensorrt(bundle: Path) -> None:
    runtime = FakeRuntime([TENSORRT, CUDA, CPU], cuda=gpu_session)
    engine = open_engine(EngineOptions(bundle), runtime.seam())
    assert (engine.provider, engine.fallback, engine.instances) == ("cuda", None, 2)
    assert runtime.preloads == ["cuda"]


def test_on_a_gpu_each_instance_has_a_session_and_memory_of_its_own(bundle: Path) -> None:
    runtime = FakeRuntime([CUDA, CPU], cuda=gpu_session)
    options = EngineOptions(
        bundle, provider="cuda", instances=3, max_batch_size=4, device_id=1, gpu_memory_bytes=1 << 30
    )
    engine = open_engine(options, runtime.seam())
    assert engine.instances == 3
    assert [device_id for device_id, _ in runtime.memories] == [1, 1, 1]
    first, *instances = runtime.served
    assert first.runs == []  # it has only shown that the provider runs
    assert len(instances) == 3
    for session in instances:
        assert [run.graph_id for run in session.runs if run.captured] == [4, 3, 2, 1]
        assert [run.graph_id for run in session.runs[-2:]] == [1, 4]  # the engine's own warm-up replays
    fixed = {"device_id": "1", "arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"}
    expected = {**fixed, "gpu_mem_limit": str(1 << 30), "enable_cuda_graph": "1"}
    assert [opening.providers for opening in runtime.opened] == [
        [(CUDA, {"device_id": "1"})], *[[(CUDA, expected)]] * 3
    ]  # fmt: skip
    assert [opening.entry(HELD) for opening in runtime.opened] == [None, "1", "1", "1"]
    assert {opening.options.intra_op_num_threads for opening in runtime.opened} == {1}


def test_the_session_that_was_opened_on_trial_makes_room_before_the_instances_are(bundle: Path) -> None:
    alive: weakref.WeakSet[FakeGpuSession] = weakref.WeakSet()
    before: list[int] = []

    def open_one(path: Path, options: onnxruntime.SessionOptions, providers: Providers) -> FakeGpuSession:
        before.append(len(alive))
        session = gpu_session()
        alive.add(session)
        return session

    runtime = Runtime(lambda: [CUDA, CPU], lambda provider: [], open_one, lambda device_id: FakeMemory())
    engine = open_engine(EngineOptions(bundle, provider="cuda"), runtime)
    assert engine.instances == 2
    assert before == [0, 0, 1]


def test_on_a_gpu_batches_are_answered_in_order_and_padded(bundle: Path) -> None:
    runtime = FakeRuntime([CUDA, CPU], cuda=partial(gpu_session, embedding=means_of_patches))
    engine = open_engine(EngineOptions(bundle, provider="cuda", max_batch_size=16), runtime.seam())
    batch = list(np.random.default_rng(0).integers(0, 256, (9, 4, 48), dtype=np.uint8))
    assert engine.run(batch).logits == pytest.approx(means_of_colors(np.stack(batch)))
    assert engine.run(batch).embedding == pytest.approx(means_of_patches(np.stack(batch)))
    assert [engine.pool[0].runner.padding(count) for count in (1, 5, 9, 16)] == [0, 1, 3, 0]


class Disguised:
    """A real session on the CPU that says it runs on CUDA: everything but the GPU itself."""

    def __init__(self, path: Path, options: onnxruntime.SessionOptions) -> None:
        self._session = onnxruntime.InferenceSession(str(path), options, providers=[CPU])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        return [SimpleNamespace(ep_name=CUDA) for _ in self._session.get_provider_graph_assignment_info()]


def test_the_shipped_classifier_climbs_the_ladder_with_onnx_runtimes_own_calls() -> None:
    def open_one(path: Path, options: onnxruntime.SessionOptions, providers: Providers) -> Any:
        if providers[0][1].get("enable_cuda_graph"):
            options.add_session_config_entry(HELD, "0")  # here every node is the CPU's
        return Disguised(path, options)

    shipped = Path(__file__).parents[3] / "bundles" / "fashion-mnist"
    seam = Runtime(lambda: [CUDA, CPU], lambda provider: [], open_one, lambda device_id: OrtMemory("cpu", device_id))
    options = EngineOptions(shipped, provider="cuda", precision="fp32", max_batch_size=6)
    gpu, cpu = open_engine(options, seam), open_engine(replace(options, provider="cpu"))
    assert (gpu.provider, gpu.instances) == ("cuda", 2)
    rng = np.random.default_rng(0)
    batch = list(rng.integers(0, 256, (6, gpu.spec.num_patches, gpu.spec.patch_bytes), dtype=np.uint8))
    for count in (6, 1, 5, 2, 3, 4):
        for found, expected in zip(gpu.run(batch[:count]), cpu.run(batch[:count]), strict=True):
            assert found is not None
            assert expected is not None
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_tensorrt_keeps_its_engine_and_leaves_the_rest_to_cuda(bundle: Path, tmp_path: Path) -> None:
    runtime = FakeRuntime([TENSORRT, CUDA, CPU], tensorrt=tensorrt_session)
    options = EngineOptions(bundle, provider="tensorrt", instances=1, max_batch_size=8, tensorrt_cache=tmp_path)
    engine = open_engine(options, runtime.seam())
    assert (engine.provider, engine.fallback, engine.instances) == ("tensorrt", None, 1)
    assert runtime.preloads == ["tensorrt"]
    trial, serving = runtime.opened
    assert trial.providers == [(TENSORRT, {"device_id": "0"})]
    assert serving.names == [TENSORRT, CUDA]
    told = serving.providers[0][1]
    assert (told["trt_engine_cache_path"], told["trt_fp16_enable"]) == (str(tmp_path), "0")
    assert (told["trt_profile_min_shapes"], told["trt_profile_max_shapes"]) == ("patches:1x4x48", "patches:8x4x48")


def test_tensorrt_may_use_float16_where_the_graph_does(three: Path) -> None:
    runtime = FakeRuntime([TENSORRT, CUDA, CPU], tensorrt=lambda: tensorrt_session(precision="fp16"))
    open_engine(EngineOptions(three, provider="tensorrt"), runtime.seam())
    assert runtime.opened[0].path.name == "fp16.onnx"
    assert runtime.opened[-1].providers[0][1]["trt_fp16_enable"] == "1"


def test_a_graph_that_is_left_to_the_cpu_in_part_is_refused(bundle: Path) -> None:
    sessions = {"cuda": gpu_session, "held": RuntimeError("node\nResize")}
    assert refusal(bundle, FakeRuntime([CUDA, CPU], **sessions).seam(), provider="cuda") == (
        f"{bundle / 'fp32.onnx'} does not run on {CUDA} alone: node Resize"
    )


def test_a_graph_of_which_tensorrt_takes_nothing_is_refused(bundle: Path) -> None:
    runtime = FakeRuntime([TENSORRT, CUDA, CPU], tensorrt=lambda: tensorrt_session(takers=[CUDA]))
    assert refusal(bundle, runtime.seam(), provider="tensorrt") == (
        f"{bundle / 'fp32.onnx'}: {TENSORRT} takes none of its operations; {CUDA} would run them."
    )


def test_a_graph_whose_replay_answers_otherwise_is_refused(bundle: Path) -> None:
    runtime = FakeRuntime([CUDA, CPU], cuda=lambda: gpu_session(replay=lambda patches: means_of_colors(patches) + 5))
    assert refusal(bundle, runtime.seam(), provider="cuda").startswith("The captured graph of 1 pictures answers other")


REMEDIES = {
    "cuda": "Run scripts/install gpu on a machine with an NVIDIA GPU, or set MIXER_PROVIDER=cpu.",
    "tensorrt": (
        "Run scripts/install gpu, and install TensorRT 10, on a machine with an NVIDIA GPU, "
        "or set MIXER_PROVIDER=cuda or cpu."
    ),
}


@pytest.mark.parametrize(("provider", "name"), [("cuda", CUDA), ("tensorrt", TENSORRT)])
@pytest.mark.parametrize(
    ("missing", "named"),
    [((), "an NVIDIA GPU"), (("libcudnn.so.9", "libcublas.so.13"), "libcudnn.so.9, libcublas.so.13")],
)
def test_a_provider_that_is_listed_and_does_not_run_is_refused(
    provider: str, name: str, missing: tuple[str, ...], named: str, bundle: Path
) -> None:
    runtime = FakeRuntime([TENSORRT, CUDA, CPU], missing=missing, **{provider: FakeSession(SPEC, providers=[CPU])})
    assert refusal(bundle, runtime.seam(), provider=provider) == (
        f"provider is {provider}: {name} did not load. Missing: {named}. The graph would run on {CPU}. "
        f"{REMEDIES[provider]}"
    )


@pytest.mark.parametrize(("provider", "name"), [("cuda", CUDA), ("tensorrt", TENSORRT)])
def test_a_provider_that_raises_for_want_of_a_library_is_refused_with_its_name(
    provider: str, name: str, bundle: Path
) -> None:
    runtime = FakeRuntime(
        [TENSORRT, CUDA, CPU], missing=["libnvinfer.so.10"], **{provider: RuntimeError("state.cc:729 please install")}
    )
    assert refusal(bundle, runtime.seam(), provider=provider) == (
        f"provider is {provider}: {name} did not load. Missing: libnvinfer.so.10. {REMEDIES[provider]}"
    )


def test_a_provider_that_is_not_offered_is_refused(bundle: Path) -> None:
    runtime = FakeRuntime(["AzureExecutionProvider", CPU])
    assert refusal(bundle, runtime.seam(), provider="cuda") == (
        f"provider is cuda; this ONNX Runtime offers AzureExecutionProvider, {CPU}, not {CUDA}. "
        "scripts/install gpu puts one that does in its place; or set MIXER_PROVIDER=cpu."
    )
    assert runtime.opened == []


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this is a GPU build of ONNX Runtime")
def test_the_real_runtime_without_a_gpu_refuses_cuda_too(bundle: Path) -> None:
    assert refusal(bundle, provider="cuda").startswith("provider is cuda; this ONNX Runtime offers ")


def test_auto_falls_back_to_the_cpu_and_says_why(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    runtime = FakeRuntime([CUDA, CPU], cpu=FakeSession(SPEC), cuda=RuntimeError("no device\n  found"))
    with caplog.at_level(logging.WARNING, "mixer.engine"):
        engine = open_engine(EngineOptions(bundle), runtime.seam())
    assert engine.provider == "cpu"
    assert engine.fallback == f"{bundle / 'fp32.onnx'} cannot be opened on {CUDA}: no device found"
    assert caplog.messages == [f"falling back to the CPU: {engine.fallback}"]


# --- what is no classifier ---


def test_a_folder_without_a_graph(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    assert refusal(tmp_path) == f"The bundle {tmp_path} has no fp32.onnx, fp16.onnx or int8.onnx."
    missing = tmp_path / "nowhere"
    assert refusal(missing).startswith(f"The bundle {missing} does not exist; expected a folder with fp32.onnx, ")


@pytest.mark.parametrize("content", [b"", b"this is no graph\n" * 50])
def test_a_file_that_is_not_onnx(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "fp32.onnx").write_bytes(content)
    assert refusal(tmp_path).startswith(f"{tmp_path / 'fp32.onnx'} cannot be opened on {CPU}: ")


def test_a_graph_without_a_spec(tmp_path: Path) -> None:
    write_bundle(tmp_path, SPEC, metadata={})
    assert refusal(tmp_path) == (
        f"{tmp_path / 'fp32.onnx'} has no mixer.spec in its metadata; expected a graph written by mixer export."
    )


@pytest.mark.parametrize(
    "text", ["", "not JSON", "{}", SPEC.model_dump_json().replace('"num_classes":3', '"num_classes":4')]
)
def test_a_graph_whose_spec_is_not_valid(text: str, tmp_path: Path) -> None:
    write_bundle(tmp_path, SPEC, metadata={METADATA_KEY: text})
    assert refusal(tmp_path).startswith(f"{tmp_path / 'fp32.onnx'} has a mixer.spec that is not valid: ")


@pytest.mark.parametrize(
    ("breakage", "seen"),
    [
        ({"input_name": "bytes"}, "{'bytes': ('tensor(uint8)', [4, 48])}"),
        ({"input_type": TensorProto.FLOAT}, "{'patches': ('tensor(float)', [4, 48])}"),
    ],
)
def test_a_graph_that_takes_something_else_than_its_spec_says(
    breakage: dict[str, Any], seen: str, tmp_path: Path
) -> None:
    write_bundle(tmp_path, SPEC, **breakage)
    assert refusal(tmp_path) == f"{tmp_path / 'fp32.onnx'} takes {seen}; its spec says uint8 patches of 4 x 48."


def test_a_graph_for_pictures_of_another_size_than_its_spec_says(tmp_path: Path) -> None:
    larger = color_spec(image_size=12)
    write_bundle(tmp_path, SPEC, metadata={METADATA_KEY: larger.model_dump_json()})
    assert "its spec says uint8 patches of 9 x 48" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("breakage", "seen"),
    [
        ({"logits_name": "scores"}, "{'scores': [3], 'embedding': [48]}"),
        (
            {"metadata": {METADATA_KEY: color_spec(num_classes=2, labels=("a", "b"), canary=None).model_dump_json()}},
            "[3]",
        ),
    ],
)
def test_a_graph_that_gives_something_else_than_its_spec_says(
    breakage: dict[str, Any], seen: str, tmp_path: Path
) -> None:
    write_bundle(tmp_path, SPEC, **breakage)
    message = refusal(tmp_path)
    assert " gives " in message
    assert seen in message
    assert "its spec says logits of" in message


def test_a_graph_that_runs_no_batches(tmp_path: Path) -> None:
    write_bundle(tmp_path, SPEC, frozen_batch=1)
    assert refusal(tmp_path, max_batch_size=4).startswith("The graph does not run a batch of 4: ")


def test_a_graph_that_answers_in_another_shape(bundle: Path) -> None:
    session = FakeSession(SPEC, lambda patches: np.zeros((len(patches), 4), dtype=np.float32))
    message = refusal(bundle, FakeRuntime([CPU], cpu=session).seam(), max_batch_size=1)
    assert message == "The graph answers a batch of 1 with (1, 4); expected (1, 3)."


@pytest.mark.parametrize("answer", [np.nan, np.inf])
def test_a_graph_whose_answers_are_no_numbers(answer: float, bundle: Path) -> None:
    session = FakeSession(SPEC, lambda patches: np.full((len(patches), 3), answer, dtype=np.float32))
    message = refusal(bundle, FakeRuntime([CPU], cpu=session).seam(), max_batch_size=1)
    assert message == f"The graph answers a blank image with [{answer} {answer} {answer}]; expected finite numbers."


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_graph_whose_embeddings_are_no_numbers(wrong: float, provider: str, bundle: Path) -> None:
    def embedding(patches: NDArray[np.uint8]) -> NDArray[np.float32]:  # of blank images, as the warm-up runs them
        return means_of_patches(patches) + np.float32(0 if patches.any() else wrong)

    session = FakeSession(SPEC, embedding=embedding) if provider == "cpu" else gpu_session(embedding=embedding)
    message = refusal(bundle, FakeRuntime([CUDA, CPU], **{provider: session}).seam(), provider=provider)
    assert message == "The embedding of a blank image is not all finite numbers; expected that."


def test_a_graph_whose_embeddings_have_another_shape_than_it_says(bundle: Path) -> None:
    session = FakeSession(SPEC, embedding=lambda patches: np.zeros((1, 48), dtype=np.float32))
    message = refusal(bundle, FakeRuntime([CPU], cpu=session).seam(), max_batch_size=3)
    assert message == "The graph gives a batch of 3 an embedding of (1, 48); expected (3, 48)."


def test_the_toy_graph_is_valid_onnx(bundle: Path) -> None:
    onnx.checker.check_model(onnx.load(bundle / "fp32.onnx"), full_check=True)


# --- how many pictures in a run ---


@pytest.mark.parametrize(
    ("variant", "sizes", "best"),
    [
        ("the default model", {"hidden_dim": 128, "num_blocks": 8, "tokens_mlp_dim": 64, "channels_mlp_dim": 512}, 21),
        ("S/16", {"hidden_dim": 512, "num_blocks": 8, "tokens_mlp_dim": 256, "channels_mlp_dim": 2048}, 2),
        ("B/16", {"hidden_dim": 768, "num_blocks": 12, "tokens_mlp_dim": 384, "channels_mlp_dim": 3072}, 1),
    ],
)
def test_on_a_cpu_a_run_is_as_large_as_the_cache_and_never_empty(
    variant: str, sizes: dict[str, int], best: int
) -> None:
    image_size, patch_size = (28, 4) if variant == "the default model" else (224, 16)
    spec = SPEC.model_copy(update={"image_size": image_size, "patch_size": patch_size, "network": Network(**sizes)})
    assert best_batch_size("cpu", spec) == best
    assert best_batch_size("cuda", spec) == 64


def test_a_graph_that_does_not_say_its_sizes_gets_a_middling_batch() -> None:
    assert best_batch_size("cpu", SPEC.model_copy(update={"network": None})) == 16


def test_the_batch_that_is_chosen_is_the_one_that_is_warmed(bundle: Path) -> None:
    session = FakeSession(SPEC)
    engine = open_engine(EngineOptions(bundle, provider="cpu"), FakeRuntime([CPU], cpu=session).seam())
    assert sorted({len(batch) for batch in session.batches}) == [1, engine.max_batch_size]
    assert open_engine(EngineOptions(bundle, provider="cpu", max_batch_size=3)).max_batch_size == 3
