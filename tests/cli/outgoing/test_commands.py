"""`mixer export --timm`: what is written, and what is told of timm's differences."""

from collections.abc import Callable
from pathlib import Path

import pytest

from model.network import checkpoint as checkpoints
from model.spec import Fit
from tests.cli.conftest import mixer
from tests.export.toy_checkpoints import toy_checkpoint

__all__ = ["mixer"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    checkpoints.save(toy_checkpoint(fit=Fit(mode="pad")), tmp_path / "source")
    return tmp_path / "source"


def test_timms_layout_alone(
    mixer: Callable[..., int], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert mixer("export", source, "--timm", tmp_path / "timm") == 0
    out, err = capsys.readouterr()
    assert out == f'{tmp_path}/timm: timm.create_model("local-dir:{tmp_path}/timm", pretrained=True)\n'
    assert "import" in err
    assert "note: timm pads with the mean color" in err
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.heavy
def test_beside_a_bundle(mixer: Callable[..., int], source: Path, tmp_path: Path):
    assert mixer("export", source, tmp_path / "bundle", "--timm", tmp_path / "timm") == 0
    assert (tmp_path / "bundle" / "fp32.onnx").is_file()
    assert (tmp_path / "timm" / "config.json").is_file()


def test_an_export_to_nowhere_is_told(mixer: Callable[..., int], source: Path, capsys: pytest.CaptureFixture[str]):
    assert mixer("export", source) == 2
    assert capsys.readouterr().err == "mixer: BUNDLE is missing; expected a folder for the graphs, or --timm DIR.\n"
