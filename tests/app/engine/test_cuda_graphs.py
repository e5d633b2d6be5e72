"""A GPU instance's bookkeeping: with fakes that capture like CUDA graphs do, and with ONNX Runtime itself on a CPU."""

import random
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.engine.cuda_graphs import BatchBucketRunner, batch_buckets
from app.engine.gpu_buffers import OrtMemory
from app.engine.instance import Instance
from app.engine.metadata import embedding_dim
from app.errors import EngineError
from tests.app.color_bundle import color_spec, write_bundle
from tests.app.fakes import FakeGpuSession, FakeMemory, means_of_colors, means_of_patches

SPEC = color_spec()
TOP = 12
BUCKETS = [1, 2, 3, 4, 6, 8, 12]
OUTPUTS = ["logits", "embedding"]
Images = list[NDArray[np.uint8]]


def images(count: int, seed: int = 0) -> Images:
    """That many different ones."""
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (count, SPEC.num_patches, SPEC.patch_bytes), dtype=np.uint8))


def captured(session: FakeGpuSession, memory: FakeMemory | None = None) -> BatchBucketRunner:
    dim = embedding_dim(session)
    runner = BatchBucketRunner(session, SPEC, TOP, memory or FakeMemory(), dim)
    session.runs.clear()
    return runner


def embedding_session(**breakage: Any) -> FakeGpuSession:
    """One whose graph gives embeddings."""
    return FakeGpuSession(SPEC, embedding=means_of_patches, **breakage)


# --- before ready ---


def test_every_rung_is_run_captured_and_replayed_before_ready() -> None:
    session = FakeGpuSession(SPEC)
    BatchBucketRunner(session, SPEC, TOP, FakeMemory())
    for bucket in BUCKETS:
        runs = [run for run in session.runs if len(run.patches) == bucket]
        assert [(run.graph_id, run.captured) for run in runs] == [(-1, False), (bucket, True), (bucket, False)]
        assert runs[0].patches.any()
        assert not runs[1].patches.any()
        assert (runs[2].patches == runs[0].patches).all()


def test_the_largest_rung_is_captured_first_and_so_takes_the_memory_of_all() -> None:
    session = FakeGpuSession(SPEC)
    BatchBucketRunner(session, SPEC, TOP, FakeMemory())
    assert [run.graph_id for run in session.runs if run.captured] == BUCKETS[::-1]


def test_every_replay_is_proved_after_the_last_capture() -> None:
    session = FakeGpuSession(SPEC)
    BatchBucketRunner(session, SPEC, TOP, FakeMemory())
    assert [run.graph_id for run in session.runs[-len(BUCKETS) :]] == BUCKETS
    assert not any(run.captured for run in session.runs[-len(BUCKETS) :])


@pytest.mark.parametrize(
    ("replay", "drift"),
    [
        (lambda patches: means_of_colors(patches) + 1, r"1"),
        (lambda patches: means_of_colors(patches) * np.float32("nan"), "nan"),
        (lambda patches: means_of_colors(patches[::-1].copy() // 2), r"\d\S*"),
    ],
)
def test_a_graph_that_answers_otherwise_when_replayed_is_refused(replay: Callable[[Any], Any], drift: str) -> None:
    message = (
        rf"^The captured graph of 1 pictures answers otherwise than the graph itself: its logits are off by {drift}; "
        r"expected at most 0\.1\d*\.$"
    )
    with pytest.raises(EngineError, match=message):
        BatchBucketRunner(FakeGpuSession(SPEC, replay=replay), SPEC, TOP, FakeMemory())


@pytest.mark.parametrize("wrong", [0.5, float("nan")])
def test_a_graph_whose_embedding_alone_is_another_when_replayed_is_refused(wrong: float) -> None:
    session = embedding_session(replay_embedding=lambda patches: means_of_patches(patches) * np.float32(wrong))
    message = (
        r"^The captured graph of 1 pictures answers otherwise than the graph itself: its embedding is off by \S+; "
        r"expected at most \d\S*\.$"
    )
    with pytest.raises(EngineError, match=message):
        captured(session)


def test_a_rung_that_does_not_run_is_named() -> None:
    def answer(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        if len(patches) == 6:
            raise RuntimeError("out of\nmemory")
        return means_of_colors(patches)

    with pytest.raises(EngineError, match=r"^The graph does not run a batch of 6: out of memory$"):
        BatchBucketRunner(FakeGpuSession(SPEC, answer), SPEC, TOP, FakeMemory())


def test_buffers_that_cannot_be_had_stop_the_start() -> None:
    class Scarce(FakeMemory):
        def device(self, shape: tuple[int, ...], dtype: Any) -> Any:
            if shape[0] > 4:
                raise RuntimeError("CUDA failure 2:\n out of memory")
            return super().device(shape, dtype)

    with pytest.raises(EngineError, match=r"^No buffers for batches of up to 12: CUDA failure 2: out of memory$"):
        BatchBucketRunner(FakeGpuSession(SPEC), SPEC, TOP, Scarce())


def test_every_rung_has_memory_of_its_own_size_and_is_bound_once() -> None:
    session, memory = FakeGpuSession(SPEC), FakeMemory()
    captured(session, memory)
    assert [host.shape for host in memory.hosts] == [(TOP, 4, 48)]
    assert [array.numpy().shape for array in memory.arrays[::2]] == [(bucket, 4, 48) for bucket in BUCKETS]
    assert [array.numpy().shape for array in memory.arrays[1::2]] == [(bucket, 3) for bucket in BUCKETS]
    assert {array.numpy().dtype for array in memory.arrays[::2]} == {np.dtype(np.uint8)}
    assert {array.numpy().dtype for array in memory.arrays[1::2]} == {np.dtype(np.float32)}
    bound = [value for binding in session.bindings for value in binding.bound.values()]
    assert bound == memory.arrays
    assert len(session.bindings) == len(BUCKETS)


def test_every_rung_has_memory_for_embeddings_where_the_graph_gives_them() -> None:
    session, memory = embedding_session(), FakeMemory()
    captured(session, memory)
    assert [array.numpy().shape for array in memory.arrays[2::3]] == [(bucket, 48) for bucket in BUCKETS]
    assert {array.numpy().dtype for array in memory.arrays[2::3]} == {np.dtype(np.float32)}
    assert [binding.bound["embedding"] for binding in session.bindings] == memory.arrays[2::3]


# --- running ---


@pytest.mark.parametrize("count", range(1, TOP + 1))
def test_a_batch_is_padded_to_the_next_rung_with_blanks_and_answered_in_order(count: int) -> None:
    session = FakeGpuSession(SPEC)
    runner = captured(session)
    batch = images(count)
    logits = runner.run(batch).logits
    assert logits.dtype == np.float32
    assert logits == pytest.approx(means_of_colors(np.stack(batch)))
    (run,) = session.runs
    bucket = min(size for size in BUCKETS if size >= count)
    assert (run.graph_id, run.captured, len(run.patches)) == (bucket, False, bucket)
    assert not run.patches[count:].any()
    assert runner.padding(count) == bucket - count


def test_nothing_of_a_larger_batch_is_left_in_a_smaller_one() -> None:
    session = FakeGpuSession(SPEC)
    runner = captured(session)
    runner.run(images(TOP))
    runner.run(images(5, seed=1))
    assert (session.runs[-1].patches[:5] == np.stack(images(5, seed=1))).all()
    assert not session.runs[-1].patches[5:].any()


def test_an_answer_stays_what_it_was_when_the_next_batch_runs() -> None:
    runner = captured(FakeGpuSession(SPEC))
    first = runner.run(images(3)).logits
    kept = first.copy()
    runner.run(images(3, seed=1))
    assert (first == kept).all()


@pytest.mark.parametrize("count", range(1, TOP + 1))
def test_a_padded_batch_has_an_embedding_for_each_of_its_own_pictures(count: int) -> None:
    batch = images(count)
    embedding = captured(embedding_session()).run(batch).embedding
    assert embedding is not None
    assert (embedding.dtype, embedding.shape) == (np.float32, (count, 48))
    assert embedding == pytest.approx(means_of_patches(np.stack(batch)))


def test_a_graph_without_embeddings_gives_none() -> None:
    assert captured(FakeGpuSession(SPEC)).run(images(3)).embedding is None


def test_an_embedding_stays_what_it_was_when_the_next_batch_runs() -> None:
    runner = captured(embedding_session())
    first = runner.run(images(3)).embedding
    assert first is not None
    kept = first.copy()
    runner.run(images(3, seed=1))
    assert (first == kept).all()


def test_nothing_is_allocated_bound_or_captured_after_the_warm_up() -> None:
    session, memory = FakeGpuSession(SPEC), FakeMemory()
    runner = captured(session, memory)
    before = len(memory.hosts), len(memory.arrays), len(session.bindings)
    rng = random.Random(0)
    stock = images(TOP)
    for _ in range(2000):
        runner.run(stock[: rng.randint(1, TOP)])
    assert (len(memory.hosts), len(memory.arrays), len(session.bindings)) == before
    assert len(session.runs) == 2000
    assert not any(run.captured for run in session.runs)


def test_whoever_calls_its_instance_the_runs_are_in_the_thread_that_captured() -> None:
    session = FakeGpuSession(SPEC)
    instance = Instance(lambda: BatchBucketRunner(session, SPEC, TOP, FakeMemory()))
    callers = [threading.Thread(target=instance.call, args=(instance.runner.run, images(2))) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len({run.thread for run in session.runs}) == 1
    assert not any(run.captured for run in session.runs[-3:])


def test_two_runners_share_no_memory() -> None:
    memory = FakeMemory()
    runners = [captured(FakeGpuSession(SPEC), memory) for _ in range(2)]
    places = [*memory.hosts, *(array.numpy() for array in memory.arrays)]
    assert len(places) == 2 * (1 + 2 * len(BUCKETS))
    assert not any(np.shares_memory(a, b) for i, a in enumerate(places) for b in places[:i])
    assert runners[0].run(images(1)).logits == pytest.approx(runners[1].run(images(1)).logits)


def test_its_session_and_its_memory_go_with_it() -> None:
    session, memory = FakeGpuSession(SPEC), FakeMemory()
    runner = captured(session, memory)
    runner.run(images(2))
    gone = [weakref.ref(thing) for thing in (runner, session, memory)]
    del runner, session, memory
    assert [thing() for thing in gone] == [None, None, None]


def test_a_picture_of_another_shape_does_not_run() -> None:
    session = FakeGpuSession(SPEC)
    runner = captured(session)
    with pytest.raises(ValueError, match=r"could not broadcast|shape"):
        runner.run([np.zeros((4, 47), dtype=np.uint8)])
    assert session.runs == []
    assert runner.run(images(1)).logits.shape == (1, 3)


# --- the same with ONNX Runtime itself, on its device "cpu" ---


@pytest.fixture(scope="module")
def session(bundle: Path) -> Any:
    return onnxruntime.InferenceSession(str(bundle / "fp32.onnx"), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def real(session: Any) -> BatchBucketRunner:
    return BatchBucketRunner(session, SPEC, TOP, OrtMemory("cpu", 0), SPEC.patch_bytes)


@given(st.lists(st.integers(1, TOP), min_size=1, max_size=6), st.integers(0, 99))
def test_onnx_runtime_answers_any_sequence_of_batches_as_it_does_without_a_ladder(
    session: Any, real: BatchBucketRunner, counts: list[int], seed: int
) -> None:
    for count in counts:
        batch = images(count, seed)
        for found, expected in zip(real.run(batch), session.run(OUTPUTS, {"patches": np.stack(batch)}), strict=True):
            assert (found == expected).all()


def test_onnx_runtimes_memory_stays_where_it_is(session: Any) -> None:
    values: list[Any] = []

    class Watched(OrtMemory):
        def device(self, shape: tuple[int, ...], dtype: Any) -> Any:
            values.append(super().device(shape, dtype))
            return values[-1]

    runner = BatchBucketRunner(session, SPEC, TOP, Watched("cpu", 0), SPEC.patch_bytes)
    addresses = [value.data_ptr() for value in values]
    for count in range(1, TOP + 1):
        runner.run(images(count))
    assert len(addresses) == len(set(addresses)) == 3 * len(batch_buckets(TOP))
    assert [value.data_ptr() for value in values] == addresses


def test_a_graph_that_runs_no_batches_is_refused_by_name_of_the_rung(tmp_path: Path) -> None:
    write_bundle(tmp_path, SPEC, frozen_batch=1)
    session = onnxruntime.InferenceSession(str(tmp_path / "fp32.onnx"), providers=["CPUExecutionProvider"])
    with pytest.raises(EngineError, match=r"^The graph does not run a batch of 2: "):
        BatchBucketRunner(session, SPEC, 2, OrtMemory("cpu", 0))
