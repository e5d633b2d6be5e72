"""An engine proves itself before it serves, and says in one line what is wrong."""

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from colour_bundle import colour_graph, colour_spec, write_bundle
from fakes import FakeSession
from onnx import TensorProto

from app import engine as engine_module
from app.engine import Engine, EngineOptions, find_graphs, open_engine
from app.errors import EngineError
from app.runtime import ONNX_RUNTIME, Runtime
from model.spec import METADATA_KEY, PRECISION_KEY

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SPEC = colour_spec()


class FakeRuntime:
    """An ONNX Runtime that offers `available` and opens what `sessions` says by provider: a session, or an error.

    `cuda_held` is what it opens on a GPU when no node may stay on the CPU, where that is something else.
    """

    def __init__(self, available: Sequence[str], *, missing: Sequence[str] = (), **sessions: Any) -> None:
        self.available = available
        self.missing = missing
        self.sessions = sessions
        self.preloads = 0
        self.opened: list[tuple[Path, onnxruntime.SessionOptions, list[str]]] = []
        self.held: list[bool] = []

    def seam(self) -> Runtime:
        return Runtime(lambda: self.available, self._preload, self._open)

    def _preload(self) -> Sequence[str]:
        self.preloads += 1
        return self.missing

    def _open(self, path: Path, options: onnxruntime.SessionOptions, providers: Sequence[str]) -> Any:
        self.opened.append((path, options, list(providers)))
        self.held.append(_no_node_may_stay_on_the_cpu(options))
        provider = "cuda" if CUDA in providers else "cpu"
        outcome = self.sessions[provider]
        if self.held[-1]:
            outcome = self.sessions.get("cuda_held", outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _no_node_may_stay_on_the_cpu(options: onnxruntime.SessionOptions) -> bool:
    try:
        return bool(options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1")
    except Exception:  # noqa: BLE001 -- ONNX Runtime's own way to say that there is no such entry
        return False


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
    logits = engine.run([red, blue])
    assert logits.dtype == np.float32
    assert logits == pytest.approx(np.array([[10, 0, 0], [0, 0, 10]]), abs=1e-5)


def test_an_engine_says_what_it_is(engine: Engine) -> None:
    assert (engine.provider, engine.precision, engine.lanes, engine.fallback) == ("cpu", "fp32", 2, None)
    assert engine.spec == SPEC


def test_one_file_is_a_bundle_too(tmp_path: Path) -> None:
    file = tmp_path / "colours-int8.onnx"
    file.write_bytes(colour_graph(SPEC, metadata={METADATA_KEY: SPEC.model_dump_json()}))
    assert open_engine(EngineOptions(file, provider="cpu")).precision == "int8"


def test_the_precision_that_a_graph_states_counts_more_than_its_name(tmp_path: Path) -> None:
    file = tmp_path / "int8.onnx"
    file.write_bytes(colour_graph(SPEC))
    assert open_engine(EngineOptions(tmp_path, provider="cpu")).precision == "fp32"
    file.write_bytes(colour_graph(SPEC, metadata={METADATA_KEY: SPEC.model_dump_json(), PRECISION_KEY: "fp8"}))
    assert open_engine(EngineOptions(tmp_path, provider="cpu")).precision == "int8"


def test_threads_of_a_run_are_always_counted(bundle: Path) -> None:
    runtime = FakeRuntime([CPU], cpu=FakeSession(SPEC))
    open_engine(EngineOptions(bundle, provider="cpu", intra_op_num_threads=3), runtime.seam())
    ((path, settings, providers),) = runtime.opened
    assert path == bundle / "fp32.onnx"
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (3, 1)
    assert providers == [CPU]
    assert runtime.preloads == 0


def test_the_smallest_and_the_largest_batch_are_run_before_the_engine_is_handed_out(bundle: Path) -> None:
    session = FakeSession(SPEC)
    open_engine(EngineOptions(bundle, provider="cpu", max_batch_size=5), FakeRuntime([CPU], cpu=session).seam())
    assert sorted(len(batch) for batch in session.batches) == [1, 5]
    assert {batch.dtype for batch in session.batches} == {np.dtype(np.uint8)}


def test_lanes_are_one_for_each_cpu_and_one_on_a_gpu(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "usable_cpus", lambda: 6)
    sessions = {"cpu": FakeSession(SPEC), "cuda": FakeSession(SPEC, providers=[CUDA])}
    runtime = FakeRuntime([CUDA, CPU], **sessions).seam()
    lanes = {p: open_engine(EngineOptions(bundle, provider=p), runtime).lanes for p in ("cpu", "cuda")}
    assert lanes == {"cpu": 6, "cuda": 1}
    assert open_engine(EngineOptions(bundle, provider="cpu", lanes=2), runtime).lanes == 2


# --- which precision ---


@pytest.mark.parametrize(
    ("provider", "int8_instructions", "order"),
    [("cuda", True, "fp16 fp32 int8"), ("cpu", True, "int8 fp32 fp16"), ("cpu", False, "fp32 int8 fp16")],
)
def test_auto_picks_the_precision_that_suits_the_processor(
    provider: str, int8_instructions: bool, order: str, three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "has_int8_instructions", lambda: int8_instructions)
    session = FakeSession(SPEC, providers=[CUDA if provider == "cuda" else CPU])
    for precision in order.split():
        runtime = FakeRuntime([CUDA, CPU], **{provider: session})
        open_engine(EngineOptions(three, provider=provider), runtime.seam())
        assert runtime.opened[0][0].name == f"{precision}.onnx"
        (three / f"{precision}.onnx").unlink()  # the next best


def test_a_precision_that_is_asked_for_is_taken_or_refused(three: Path) -> None:
    assert open_engine(EngineOptions(three, provider="cpu", precision="fp16")).precision == "fp16"
    (three / "fp16.onnx").unlink()
    assert refusal(three, precision="fp16") == f"precision is fp16; the bundle {three} has fp32, int8."


def test_graphs_are_found_by_their_names(three: Path, bundle: Path) -> None:
    assert find_graphs(three) == {p: three / f"{p}.onnx" for p in ("fp32", "fp16", "int8")}
    assert find_graphs(bundle / "fp32.onnx") == {"fp32": bundle / "fp32.onnx"}


# --- which provider ---


def test_auto_takes_the_cpu_where_there_is_nothing_else(bundle: Path) -> None:
    engine = open_engine(EngineOptions(bundle), FakeRuntime([CPU], cpu=FakeSession(SPEC)).seam())
    assert (engine.provider, engine.fallback) == ("cpu", None)


def test_auto_takes_the_gpu_where_there_is_one(bundle: Path) -> None:
    runtime = FakeRuntime([CUDA, CPU], cuda=FakeSession(SPEC, providers=[CUDA, CPU]))
    engine = open_engine(EngineOptions(bundle), runtime.seam())
    assert (engine.provider, engine.fallback) == ("cuda", None)


def test_on_a_gpu_its_libraries_are_loaded_and_no_node_may_stay_on_the_cpu(bundle: Path) -> None:
    held = FakeSession(SPEC, providers=[CUDA, CPU])
    runtime = FakeRuntime([CUDA, CPU], cuda=FakeSession(SPEC, providers=[CUDA, CPU]), cuda_held=held)
    open_engine(EngineOptions(bundle, provider="cuda", max_batch_size=4), runtime.seam())
    assert runtime.preloads == 1
    assert [providers for _, _, providers in runtime.opened] == [[CUDA], [CUDA]]
    assert runtime.held == [False, True]  # first whether it runs at all, then whether all of it does
    assert len(held.batches) == 2  # the second is the one that serves


def test_a_graph_that_is_left_to_the_cpu_in_part_is_refused(bundle: Path) -> None:
    sessions = {"cuda": FakeSession(SPEC, providers=[CUDA, CPU]), "cuda_held": RuntimeError("node\nResize")}
    assert refusal(bundle, FakeRuntime([CUDA, CPU], **sessions).seam(), provider="cuda") == (
        f"{bundle / 'fp32.onnx'} has operations that {CUDA} leaves to the CPU: node Resize"
    )


@pytest.mark.parametrize(
    ("missing", "named"),
    [((), "an NVIDIA driver or GPU"), (("libcudnn.so.9", "libcublas.so.13"), "libcudnn.so.9, libcublas.so.13")],
)
def test_a_provider_that_is_listed_and_does_not_run_is_refused(
    missing: tuple[str, ...], named: str, bundle: Path
) -> None:
    runtime = FakeRuntime([CUDA, CPU], missing=missing, cuda=FakeSession(SPEC, providers=[CPU]))
    assert refusal(bundle, runtime.seam(), provider="cuda") == (
        f"provider is cuda: {CUDA} did not load, and the graph would run on {CPU}. Missing: {named}. "
        "Install mixer-serve[gpu] on a machine with an NVIDIA GPU, or set MIXER_PROVIDER=cpu."
    )


def test_a_provider_that_is_not_offered_is_refused(bundle: Path) -> None:
    runtime = FakeRuntime(["AzureExecutionProvider", CPU])
    assert refusal(bundle, runtime.seam(), provider="cuda") == (
        f"provider is cuda; this ONNX Runtime offers AzureExecutionProvider, {CPU}, not {CUDA}. "
        "Install mixer-serve[gpu] in place of [cpu], or set MIXER_PROVIDER=cpu."
    )
    assert runtime.opened == []


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this is a GPU build of ONNX Runtime")
def test_the_real_runtime_without_a_gpu_refuses_cuda_too(bundle: Path) -> None:
    assert refusal(bundle, provider="cuda").startswith("provider is cuda; this ONNX Runtime offers ")


def test_auto_falls_back_to_the_cpu_and_says_why(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    sessions = {"cpu": FakeSession(SPEC), "cuda": RuntimeError("no device\n  found")}
    runtime = FakeRuntime([CUDA, CPU], **sessions)
    with caplog.at_level(logging.WARNING, "mixer.engine"):
        engine = open_engine(EngineOptions(bundle), runtime.seam())
    assert engine.provider == "cpu"
    assert engine.fallback == f"{bundle / 'fp32.onnx'} cannot be opened on {CUDA}: no device found"
    assert caplog.messages == [f"falling back to the CPU: {engine.fallback}"]


@pytest.fixture
def severity_put_back() -> Iterator[None]:
    yield
    onnxruntime.set_default_logger_severity(2)


@pytest.mark.usefixtures("severity_put_back")
def test_the_libraries_that_a_gpu_build_cannot_load_are_named_and_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def preload_dlls() -> None:
        sys.stdout.write("Failed to load libcudnn.so.9: cannot open shared object file\nplease read the manual\n")
        sys.stdout.write("Failed to load libcublas.so.13: cannot open shared object file\n")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload_dlls, raising=False)
    assert ONNX_RUNTIME.preload() == ["libcudnn.so.9", "libcublas.so.13"]
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("severity_put_back")
def test_a_build_without_a_gpu_has_nothing_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(onnxruntime, "preload_dlls", raising=False)
    assert ONNX_RUNTIME.preload() == []


# --- what is no classifier ---


def test_a_folder_without_a_graph(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    assert refusal(tmp_path) == f"The bundle {tmp_path} has no fp32.onnx, fp16.onnx or int8.onnx."
    missing = tmp_path / "nowhere"
    assert refusal(missing) == f"The bundle {missing} has no fp32.onnx, fp16.onnx or int8.onnx."


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
    larger = colour_spec(image_size=12)
    write_bundle(tmp_path, SPEC, metadata={METADATA_KEY: larger.model_dump_json()})
    assert "its spec says uint8 patches of 9 x 48" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("breakage", "seen"),
    [
        ({"logits_name": "scores"}, "{'scores': [3], 'embedding': [48]}"),
        (
            {"metadata": {METADATA_KEY: colour_spec(num_classes=2, labels=("a", "b"), canary=None).model_dump_json()}},
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


def test_the_toy_graph_is_valid_onnx(bundle: Path) -> None:
    onnx.checker.check_model(onnx.load(bundle / "fp32.onnx"), full_check=True)
