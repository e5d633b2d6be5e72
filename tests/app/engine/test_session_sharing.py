"""Graphs of the same bytes have one session, and no others do."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from app.engine.engine import EngineOptions, open_engine
from app.engine.providers import Providers
from app.engine.session import ONNX_RUNTIME, CpuThreads, Runtime, Session
from app.engine.sessions import SharedSessions, digest_of
from tests.app.color_bundle import color_graph, color_spec, write_bundle
from tests.app.fakes import FakeSession, means_of_colors

SPEC = color_spec()
CPU: Providers = [("CPUExecutionProvider", {})]
CUDA: Providers = [("CUDAExecutionProvider", {})]


def opened(shared: SharedSessions, path: Path, providers: Providers = CPU, threads: int = 1) -> Session:
    return shared.runtime.open(path, CpuThreads(threads).session_options(), providers)


def graph(folder: Path, **changes: Any) -> Path:
    return write_bundle(folder, color_spec(**changes)) / "fp32.onnx"


def test_the_same_graph_in_two_folders_has_one_session(tmp_path: Path) -> None:
    shared = SharedSessions()
    first, second = (opened(shared, graph(tmp_path / name)) for name in "ab")
    assert first is second


def test_another_graph_has_its_own(tmp_path: Path) -> None:
    shared = SharedSessions()
    first, second = (opened(shared, graph(tmp_path / name, version=name)) for name in "ab")
    assert first is not second


def test_so_has_the_same_graph_with_other_threads(tmp_path: Path) -> None:
    shared = SharedSessions()
    path = graph(tmp_path)
    assert opened(shared, path) is not opened(shared, path, threads=2)


def test_engines_over_one_session_have_instances_of_their_own(tmp_path: Path) -> None:
    shared = SharedSessions()
    bundles = [write_bundle(tmp_path / name, SPEC) for name in "ab"]
    options = [EngineOptions(bundle, provider="cpu", instances=1, max_batch_size=2) for bundle in bundles]
    first, second = (open_engine(one, shared.runtime) for one in options)
    first._idle.get_nowait()  # its only instance is busy, for ever
    white = np.full((SPEC.num_patches, SPEC.patch_bytes), 255, np.uint8)
    assert second.run([white]).logits == pytest.approx(np.full((1, 3), 10.0))


def test_a_session_that_nobody_has_any_more_is_gone(tmp_path: Path) -> None:
    shared = SharedSessions()
    session = opened(shared, graph(tmp_path))
    alive = weakref.ref(session)
    del session
    gc.collect()
    assert alive() is None


def test_a_graph_that_has_been_replaced_is_another(tmp_path: Path) -> None:
    shared = SharedSessions()
    path = graph(tmp_path)
    before = opened(shared, path)
    assert opened(shared, graph(tmp_path, version="8")) is not before


def test_weights_in_other_files_are_not_taken_for_the_same(tmp_path: Path) -> None:
    paths = [tmp_path / name / "fp32.onnx" for name in "ab"]
    for scale, path in enumerate(paths, start=1):
        path.parent.mkdir()
        model = onnx.load_from_string(color_graph(SPEC))
        for constant in model.graph.initializer:
            constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant) * scale, constant.name))
        onnx.save_model(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    shared = SharedSessions()
    white = np.full((1, SPEC.num_patches, SPEC.patch_bytes), 255, np.uint8)
    answers = [opened(shared, path).run(["logits"], {"patches": white})[0] for path in paths]
    assert np.max(np.asarray(answers[1]) - np.asarray(answers[0])) == pytest.approx(10)


def test_a_name_of_other_files_is_found_wherever_a_file_is_read_in_two(tmp_path: Path) -> None:
    for before in range((1 << 20) - 12, (1 << 20) + 2):
        (tmp_path / "graph").write_bytes(bytes(before) + b"\x0a\x08location" + bytes(100))
        assert digest_of(tmp_path / "graph") is None
    (tmp_path / "graph").write_bytes(bytes((1 << 20) + 100))
    assert digest_of(tmp_path / "graph") is not None


class Opener:
    """A runtime that counts what it opens, after `meanwhile` has happened."""

    def __init__(self, meanwhile: Any = lambda: None) -> None:
        self.opened = 0
        self._meanwhile = meanwhile
        self.runtime: Runtime = replace(ONNX_RUNTIME, open=self._open)

    def _open(self, path: Path, options: onnxruntime.SessionOptions, providers: Providers) -> Session:
        self.opened += 1
        self._meanwhile()
        return FakeSession(SPEC, means_of_colors)


def test_a_graph_that_is_replaced_while_it_is_opened_is_not_shared(tmp_path: Path) -> None:
    path, like_it = graph(tmp_path / "a"), graph(tmp_path / "b")
    opener = Opener(lambda: graph(tmp_path / "a", version="8"))
    shared = SharedSessions(opener.runtime)
    first = opened(shared, path)
    assert opened(shared, like_it) is not first


def test_several_threads_that_open_the_same_graph_open_it_once(tmp_path: Path) -> None:
    together = threading.Barrier(4)
    opener = Opener()
    shared, paths = SharedSessions(opener.runtime), [graph(tmp_path / name) for name in "abcd"]

    def open_one(path: Path) -> Session:
        together.wait(60)
        return opened(shared, path)

    with ThreadPoolExecutor(4) as pool:
        sessions = list(pool.map(open_one, paths))
    assert opener.opened == 1
    assert all(session is sessions[0] for session in sessions)


def test_nothing_is_shared_on_a_gpu(tmp_path: Path) -> None:
    opener = Opener()
    shared, path = SharedSessions(opener.runtime), graph(tmp_path)
    assert opened(shared, path, CUDA) is not opened(shared, path, CUDA)
