"""A large graph is packed once for all processes, answers as ever, and is opened as ever where that cannot be."""

import gc
import logging
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.engine import mapped_graphs
from app.engine.engine import EngineOptions, open_engine
from app.engine.mapped_graphs import MappedGraphs
from app.engine.providers import Providers
from app.engine.session import ONNX_RUNTIME, CpuThreads, Session
from app.engine.sessions import digest_of
from app.errors import EngineError
from tests.app.color_bundle import color_spec
from tests.app.fakes import FakeSession, means_of_colors

BUNDLES = Path(__file__).parents[3] / "bundles"
CPU: Providers = [("CPUExecutionProvider", {})]
SIDE = 2048  # of the weights: 16 MiB
MIB = 1 << 20

ANONYMOUS_BYTES = """
import re, sys
from pathlib import Path
import numpy as np
from app.engine.mapped_graphs import MappedGraphs
from app.engine.session import ONNX_RUNTIME, CpuThreads

def anonymous():
    return 1024 * int(re.search(r"Anonymous: +([0-9]+)", Path("/proc/self/smaps_rollup").read_text())[1])

graph, folder = map(Path, sys.argv[1:])
runtime = MappedGraphs(folder, least_bytes=0).runtime if folder.is_dir() else ONNX_RUNTIME
before = anonymous()
session = runtime.open(graph, CpuThreads().session_options(), [("CPUExecutionProvider", {})])
session.run(None, {"x": np.ones((1, %d), np.float32)})
print(anonymous() - before)
"""


KILLED = """
import os, signal, sys
from pathlib import Path
from app.engine.mapped_graphs import MappedGraphs
from app.engine.session import CpuThreads
graph, folder = map(Path, sys.argv[1:])
options = CpuThreads().session_options()
session = MappedGraphs(folder, least_bytes=0).runtime.open(graph, options, [("CPUExecutionProvider", {})])
os.kill(os.getpid(), signal.SIGKILL)
"""


class Opened(NamedTuple):
    """What one process has."""

    mapped: MappedGraphs
    folder: Path

    def session(self, path: Path) -> Session:
        return self.mapped.runtime.open(path, CpuThreads().session_options(), CPU)

    def graphs(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.glob("*/*"))


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    folder = tmp_path / "mapped"
    folder.mkdir()
    return Opened(MappedGraphs(folder, least_bytes=0), folder)


def product(path: Path, seed: int = 0, side: int = 64) -> Path:
    """A graph that multiplies with a square of weights."""
    weights = np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, side]) for name in "xy"]
    graph = helper.make_graph([node], "product", values[:1], values[1:], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    helper.set_model_props(model, {"said": "of the graph"})
    onnx.save(model, path)
    return path


def answer(session: Session, side: int = 64) -> object:
    return np.asarray(session.run(["y"], {"x": np.linspace(-1, 1, side, dtype=np.float32)[None]})).tolist()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["clothes", "fashion-mnist"])
def test_it_answers_bit_for_bit_as_a_graph_that_is_not_mapped(name: str, precision: str, opened: Opened) -> None:
    options = EngineOptions(BUNDLES / name, provider="cpu", precision=precision, instances=1, max_batch_size=3)
    mapped, alone = open_engine(options, opened.mapped.runtime), open_engine(options)
    assert len(opened.graphs()) == 2
    assert mapped.spec == alone.spec
    shape = (3, alone.spec.num_patches, alone.spec.patch_bytes)
    patches = list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    for ours, others in zip(mapped.run(patches), alone.run(patches), strict=True):
        np.testing.assert_array_equal(ours, others)


def test_the_graphs_metadata_are_there(tmp_path: Path, opened: Opened) -> None:
    assert opened.session(product(tmp_path / "a.onnx")).get_modelmeta().custom_metadata_map["said"] == "of the graph"


def test_it_is_written_once(tmp_path: Path, opened: Opened) -> None:
    path = product(tmp_path / "a.onnx")
    first = opened.session(path)
    (state,) = {file.stat().st_ino for file in opened.folder.glob("*/graph.onnx")}
    second = MappedGraphs(opened.folder, least_bytes=0).runtime.open(path, CpuThreads().session_options(), CPU)
    assert {file.stat().st_ino for file in opened.folder.glob("*/graph.onnx")} == {state}
    assert answer(first) == answer(second)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="tells no process's memory")
def test_the_weights_are_no_processs_own_memory(tmp_path: Path, opened: Opened) -> None:
    path = product(tmp_path / "a.onnx", side=SIDE)
    kept = opened.session(path)
    mapped, alone = (_anonymous_bytes(path, folder) for folder in (opened.folder, tmp_path / "none"))
    weights = 4 * SIDE * SIDE
    assert alone > weights
    assert mapped < weights / 4
    assert kept


def _anonymous_bytes(path: Path, folder: Path) -> int:
    command = (sys.executable, "-c", ANONYMOUS_BYTES % SIDE, str(path), str(folder))
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_small_graph_is_opened_as_ever(tmp_path: Path, opened: Opened) -> None:
    MappedGraphs(opened.folder).runtime.open(product(tmp_path / "a.onnx"), CpuThreads().session_options(), CPU)
    assert opened.graphs() == []


def test_so_is_one_on_a_gpu(tmp_path: Path, opened: Opened) -> None:
    session = FakeSession(color_spec(), means_of_colors)
    fake = MappedGraphs(opened.folder, replace(ONNX_RUNTIME, open=lambda *_: session), least_bytes=0)
    options = CpuThreads().session_options()
    assert fake.runtime.open(product(tmp_path / "a.onnx"), options, [("CUDAExecutionProvider", {})]) is session
    assert opened.graphs() == []


def test_so_is_one_whose_weights_lie_in_another_file(tmp_path: Path, opened: Opened) -> None:
    path = product(tmp_path / "a.onnx")
    onnx.save(onnx.load(path), tmp_path / "b.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    assert answer(opened.session(tmp_path / "b.onnx")) == answer(
        ONNX_RUNTIME.open(path, CpuThreads().session_options(), CPU)
    )
    assert opened.graphs() == []


@pytest.mark.parametrize(
    ("free", "graphs", "expected"),
    [
        (1000 * MIB, [1 * MIB, 7 * MIB], 0),  # too small for it to be worth it
        (1000 * MIB, [60 * MIB, 40 * MIB, 1 * MIB], 100 * MIB),
        (800 * MIB, [60 * MIB, 40 * MIB], 100 * MIB),  # five times both, and a successor of the larger one
        (799 * MIB, [60 * MIB, 40 * MIB], 0),  # all or none: who is refused later would have no memory left
    ],
)
def test_what_is_planned_to_be_mapped_has_room_also_after_a_reload(
    free: int, graphs: list[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
    assert mapped_graphs.mapped_bytes(graphs) == expected


def test_a_graph_that_is_replaced_before_it_is_packed_is_not_taken_for_the_one_that_was_there(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, other = product(tmp_path / "a.onnx"), product(tmp_path / "b.onnx", 1)
    first, second = (answer(ONNX_RUNTIME.open(one, CpuThreads().session_options(), CPU)) for one in (path, other))
    asked = mapped_graphs.digest_of

    def replaced_after(path: Path) -> bytes | None:
        digest = asked(path)
        other.replace(path)
        return digest

    monkeypatch.setattr(mapped_graphs, "digest_of", replaced_after)
    assert answer(opened.session(path)) == second
    assert "was replaced while it was packed" in caplog.text
    monkeypatch.setattr(mapped_graphs, "digest_of", asked)
    product(path)
    assert answer(opened.session(path)) == first


def test_a_session_that_ends_while_another_graph_is_packed_leaves_nothing(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = [opened.session(product(tmp_path / "a.onnx"))]
    write = MappedGraphs._write

    def ending(*arguments: object) -> None:
        sessions.clear()
        gc.collect()
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(MappedGraphs, "_write", ending)
    kept = opened.session(product(tmp_path / "b.onnx", 1))
    assert len(opened.graphs()) == 2
    assert answer(kept)


def test_where_there_is_too_little_room_it_is_opened_as_ever_with_a_warning(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(MIB, MIB, 0))
    path = product(tmp_path / "a.onnx", side=512)
    assert opened.session(path)
    (line,) = caplog.messages
    assert line == (
        f"{path} is in the memory of each worker, not shared: "
        f"{tmp_path} has 0 MiB free; expected 5 MiB. TMPDIR names another."
    )
    assert opened.graphs() == []


def test_a_folder_that_is_gone_does_no_harm(tmp_path: Path, opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    path = product(tmp_path / "a.onnx")
    opened.folder.rmdir()
    assert answer(opened.session(path)) == answer(ONNX_RUNTIME.open(path, CpuThreads().session_options(), CPU))
    assert "No such file or directory" in caplog.text


def test_what_is_no_graph_is_told_as_ever_and_not_twice(
    tmp_path: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "int8.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"int8\.onnx cannot be opened on CPUExecutionProvider"):
        open_engine(EngineOptions(path, provider="cpu", instances=1), opened.mapped.runtime)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert opened.graphs() == []


def test_with_the_last_session_of_a_graph_its_file_goes_and_no_other(tmp_path: Path, opened: Opened) -> None:
    kept, gone, other = (opened.session(product(tmp_path / f"{seed}.onnx", seed)) for seed in (0, 1, 1))
    expected = answer(kept)
    assert len(opened.graphs()) == 4
    del gone
    gc.collect()
    assert len(opened.graphs()) == 4
    del other
    gc.collect()
    assert len(opened.graphs()) == 2
    assert answer(kept) == expected


def test_what_killed_processes_have_left_goes_once_another_graph_is_written(tmp_path: Path, opened: Opened) -> None:
    path = product(tmp_path / "a.onnx")
    command = (sys.executable, "-c", KILLED, str(path), str(opened.folder))
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(opened.graphs()) == 2
    kept = opened.session(product(tmp_path / "b.onnx", 1))
    assert len(opened.graphs()) == 2
    assert answer(kept)


def test_what_a_killed_process_had_begun_to_write_is_written_anew(tmp_path: Path, opened: Opened) -> None:
    path = product(tmp_path / "a.onnx")
    digest = digest_of(path)
    assert digest is not None
    begun = opened.folder / f"{digest.hex()}.new"
    begun.mkdir()
    (begun / "graph.onnx").write_bytes(b"half")
    kept = opened.session(path)
    assert not begun.exists()
    assert len(opened.graphs()) == 2
    assert answer(kept)


def test_the_options_are_left_as_they_were(tmp_path: Path, opened: Opened) -> None:
    options = CpuThreads().session_options()
    opened.mapped.runtime.open(product(tmp_path / "a.onnx"), options, CPU)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
