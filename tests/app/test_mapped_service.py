"""Several workers have a large graph's weights in memory once, also after a reload, and leave no file behind."""

import re
import shutil
import signal
from pathlib import Path

import pytest

from app.composition import runtime_of
from app.engine.mapped_graphs import LEAST_BYTES
from app.engine.session import ONNX_RUNTIME
from app.settings import Settings
from tests.app.servers import STARTED, Server, free_port, until

ROOT = Path(__file__).parents[2]
FP32 = ROOT / "bundles" / "clothes" / "fp32.onnx"
SEVERAL = Settings(provider="cpu", workers=2)
_MAPPED = re.compile(r" (/\S*/mixer-graphs-.*)$", re.M)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files of the moment go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_several_workers_have_a_folder_for_them_as_long_as_they_work(temporary: Path) -> None:
    with runtime_of(SEVERAL) as runtime:
        assert runtime is not ONNX_RUNTIME
        assert len(list(temporary.iterdir())) == 1
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("options", [{"workers": 1, "provider": "cpu"}, {"workers": 2, "provider": "cuda"}])
def test_one_worker_and_a_gpu_need_none(options: dict[str, object], temporary: Path) -> None:
    with runtime_of(SEVERAL.model_copy(update=options)) as runtime:
        assert runtime is ONNX_RUNTIME
        assert list(temporary.iterdir()) == []


def test_where_nothing_can_be_written_each_has_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with runtime_of(SEVERAL) as runtime:
        assert runtime is ONNX_RUNTIME


@pytest.mark.process
def test_workers_map_one_file_after_a_reload_another_and_in_the_end_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FP32.stat().st_size > LEAST_BYTES
    bundle, temporary, port = tmp_path / "bundle", tmp_path / "temporary", free_port()
    bundle.mkdir()
    temporary.mkdir()
    shutil.copy(FP32, bundle)
    monkeypatch.setenv("TMPDIR", str(temporary))
    flags = ("--port", str(port), "--bundle", str(bundle), "--workers", "2", "--precision", "fp32")
    with Server("-m", "cli", "serve", *flags, port=port) as running:
        workers = [int(pid) for pid in running.wait_for(STARTED, 2)]
        running.wait_until_serving(2)
        (before,) = _mapped_by(workers)
        assert [str(path) for path in temporary.glob("*/*/weights")] == [before]
        _say_more_in_the_metadata(bundle / "fp32.onnx")
        running.signal(signal.SIGHUP)
        until(lambda: _mapped_by(workers).isdisjoint({before, f"{before} (deleted)"}))
        (after,) = _mapped_by(workers)
        assert [str(path) for path in temporary.glob("*/*/weights")] == [after]
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert "not shared" not in "".join(running.lines)
    assert list(temporary.iterdir()) == []


def _mapped_by(workers: list[int]) -> set[str]:
    """The files of weights that any of these maps."""
    return {found for pid in workers for found in _MAPPED.findall(Path(f"/proc/{pid}/maps").read_text())}


def _say_more_in_the_metadata(graph: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(graph)
    onnx.helper.set_model_props(model, {**{one.key: one.value for one in model.metadata_props}, "note": "of a test"})
    beside = graph.with_suffix(".new")
    onnx.save(model, beside)
    beside.replace(graph)
