"""The folder of an export to timm's layout: what it holds, what it takes the place of, and what its card says."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from export.outgoing.timm_folder import README, write_timm
from export.outgoing.timm_layout import ENTRY_POINT
from model.errors import ExportError
from model.network import checkpoint as checkpoints
from model.spec import Fit, Metrics
from tests.export.toy_checkpoints import toy_checkpoint


def written(folder: Path, fit: Fit | None = None, channels: int = 3, prose: str = "") -> str:
    """The card of an export."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    (source / "card.toml").write_text(prose)
    write_timm(toy_checkpoint(channels, fit=fit), source, folder / "out")
    return (folder / "out" / README).read_text()


def test_a_folder_has_weights_config_card_and_where_needed_the_entry_point(tmp_path: Path):
    written(tmp_path)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md", ENTRY_POINT}


def test_the_card_is_one_that_hubs_read_as_timms(tmp_path: Path):
    front = written(tmp_path).split("---\n")[1]
    assert "library_name: timm\n" in front
    assert re.search(r"^- timm$", front, re.MULTILINE)
    assert "pipeline_tag: image-classification\n" in front
    assert "onnx" not in front


def test_the_card_says_how_timm_loads_it_and_what_it_does_otherwise(tmp_path: Path):
    card = written(tmp_path, Fit(mode="pad", background="dark"), channels=1)
    assert "import timm_mixer" in card
    assert '.convert("L")' in card
    for words in ("pads with the mean color", "does not exchange light and dark"):
        assert words in card


def test_the_card_tells_what_people_said_of_the_checkpoint(tmp_path: Path):
    assert "Finds the way home." in written(tmp_path, prose='overview = "Finds the way home."')


def test_the_cards_program_is_python(tmp_path: Path):
    program = written(tmp_path).split("```python\n")[1].split("```")[0]
    compile(program, "card", "exec")


def test_a_hidden_layer_in_the_head_is_refused_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(ExportError, match=r"hidden layer of 20, which timm's Mixer has not; expected a linear head"):
        write_timm(toy_checkpoint(head_hidden_dim=20), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_earlier_export_is_replaced(tmp_path: Path):
    written(tmp_path)
    assert "shows the way" in written(tmp_path, prose='overview = "shows the way"')


def test_a_checkpoint_is_not_written_over(tmp_path: Path):
    checkpoints.save(toy_checkpoint(), tmp_path / "out")
    before = (tmp_path / "out" / "config.json").read_bytes()
    with pytest.raises(ExportError, match=r"out holds config.json, model.safetensors, and is not in timm's layout"):
        written(tmp_path)
    assert (tmp_path / "out" / "config.json").read_bytes() == before


def test_another_network_of_timms_is_not_written_over(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text('{"architecture": "resnet50"}')
    (tmp_path / "out" / "model.safetensors").write_text("weights")
    with pytest.raises(ExportError, match=r"out holds config.json, model.safetensors, and is not in timm's layout"):
        written(tmp_path)
    assert (tmp_path / "out" / "model.safetensors").read_text() == "weights"


def test_a_file_in_its_place_is_told(tmp_path: Path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ExportError, match="out is a file; expected a folder"):
        written(tmp_path)


def test_what_was_measured_stands_in_the_card(tmp_path: Path):
    metrics = Metrics(data_set="maps", num_pictures=4, top1=0.75, top5=1, calibration_error=0)
    checkpoint = toy_checkpoint()
    measured = replace(checkpoint, spec=checkpoint.spec.model_copy(update={"metrics": metrics}))
    write_timm(measured, tmp_path, tmp_path / "out")
    card = (tmp_path / "out" / README).read_text()
    assert "| `model.safetensors` |" in card
    assert "75.00%" in card
    assert "## Accuracy" not in written(tmp_path)
