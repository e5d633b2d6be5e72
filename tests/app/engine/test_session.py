"""The seam to ONNX Runtime: that its own words mean what this service takes them to mean."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.engine.session import ONNX_RUNTIME, CpuThreads, one_line, open_held, open_session
from app.errors import EngineError
from tests.app.color_bundle import color_spec, write_bundle

CPU, AZURE = "CPUExecutionProvider", "AzureExecutionProvider"


def test_a_session_says_which_provider_took_which_part(bundle: Path) -> None:
    options = CpuThreads().session_options()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ONNX_RUNTIME.open(bundle / "fp32.onnx", options, [(CPU, {})])
    assert {part.ep_name for part in session.get_provider_graph_assignment_info()} == {CPU}


def test_a_session_that_is_held_to_its_provider_leaves_nothing_to_the_cpu(bundle: Path) -> None:
    with pytest.raises(EngineError, match=rf"fp32\.onnx does not run on {CPU} alone: .* disabled fallback to the CPU"):
        open_held(bundle / "fp32.onnx", [(CPU, {})], CpuThreads(), ONNX_RUNTIME)


@pytest.mark.skipif(AZURE not in ONNX_RUNTIME.available(), reason="this build has no provider that takes nothing")
def test_a_graph_that_its_provider_leaves_to_the_cpu_is_refused(bundle: Path) -> None:
    with pytest.raises(
        EngineError, match=rf"fp32\.onnx does not run on {AZURE} alone: .* assigned to the default CPU EP"
    ):
        open_held(bundle / "fp32.onnx", [(AZURE, {})], CpuThreads(), ONNX_RUNTIME)


def test_a_session_never_changes_its_provider_by_itself(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = open_session(bundle / "fp32.onnx", "cpu", 0, CpuThreads(), ONNX_RUNTIME)
    assert not session._enable_fallback  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match=r"^nowhere\.onnx cannot be opened on CPUExecutionProvider: "):
        open_session(Path("nowhere.onnx"), "cpu", 0, CpuThreads(), ONNX_RUNTIME)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("spin", "entry"), [(True, "1"), (False, "0")])
def test_the_threads_of_a_run_are_counted_and_told_whether_to_spin(spin: bool, entry: str) -> None:
    options = CpuThreads(3, spin=spin).session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    for pool in ("intra_op", "inter_op"):
        assert options.get_session_config_entry(f"session.{pool}.allow_spinning") == entry


def test_a_message_of_many_lines_becomes_one_and_is_cut() -> None:
    assert one_line(RuntimeError("no\n  device\tfound")) == "no device found"
    assert len(one_line(RuntimeError("x" * 1000))) == 400


_ARENAS = """
import resource, sys
from pathlib import Path
import numpy as np
from app.engine.session import ONNX_RUNTIME, CpuThreads, open_session

pictures = np.zeros((100_000, 4, 48), np.uint8)  # 77 MB as float32
sessions = [open_session(Path(sys.argv[1]), "cpu", 0, CpuThreads(), ONNX_RUNTIME) for _ in range(4)]
peaks = []
for session in sessions:
    session.run(["logits"], {"patches": pictures})
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[-1] - peaks[1])
"""


@pytest.mark.process
def test_all_sessions_on_the_cpu_have_the_memory_of_one_for_their_activations(tmp_path: Path) -> None:
    graph = write_bundle(tmp_path / "colours", color_spec()) / "fp32.onnx"
    finished = subprocess.run(
        [sys.executable, "-c", _ARENAS, str(graph)], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(finished.stdout) < 20_000, "KiB more at the peak after four than after two"
