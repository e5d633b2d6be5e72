"""What of a model goes to a hub: graphs, timm's layout and the card; of a signed bundle all of it, as it is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from export.bundle import publish
from export.outgoing.package import collect
from export.outgoing.timm_layout import timm_tensors
from export.to_onnx import TorchNetwork
from model.errors import ExportError
from model.network import checkpoint as checkpoints
from model.network.checkpoint import Checkpoint
from model.spec import Metrics
from tests.export.toy_checkpoints import toy_checkpoint

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]
CARD = "---\nlibrary_name: onnx\ntags:\n- onnx\n- onnxruntime\n---\n# Ways home\n"


@pytest.fixture(scope="module")
def toy() -> Checkpoint:
    return toy_checkpoint()


@pytest.fixture
def bundle(toy: Checkpoint, tmp_path: Path) -> Path:
    """A bundle with a card, and with things that nobody asked for."""
    publish(TorchNetwork(toy), tmp_path / "ways", precisions=())
    (tmp_path / "ways" / "README.md").write_text(CARD)
    (tmp_path / "ways" / "metrics.jsonl").write_text("{}")
    (tmp_path / "ways" / "charts").mkdir()
    (tmp_path / "ways" / "charts" / "risk.svg").write_text("<svg/>")
    return tmp_path / "ways"


def collected(source: Path, folder: Path) -> set[str]:
    folder.mkdir()
    collect(source, folder)
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_of_a_bundle_graphs_and_card_go_and_no_traces_of_its_making(bundle: Path, tmp_path: Path):
    assert collected(bundle, tmp_path / "out") == {"fp32.onnx", "README.md", "charts/risk.svg"}
    assert (tmp_path / "out" / "README.md").read_text() == CARD


def test_a_bundle_that_has_its_checkpoint_goes_in_timms_layout_too(bundle: Path, toy: Checkpoint, tmp_path: Path):
    checkpoints.save(toy, bundle / "checkpoint")
    names = collected(bundle, tmp_path / "out")
    assert names == {
        "fp32.onnx", "README.md", "charts/risk.svg", "model.safetensors", "config.json", "timm_mixer.py"
    }  # fmt: skip
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\ntags:\n- onnx\n- onnxruntime\n- timm\n---\n# Ways home\n")
    assert card.endswith("\n")
    assert "## With timm" in card
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in timm_tensors(toy).items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


def test_a_head_that_timm_has_not_goes_without_timms_layout(bundle: Path, tmp_path: Path):
    checkpoints.save(toy_checkpoint(head_hidden_dim=20), bundle / "checkpoint")
    assert collected(bundle, tmp_path / "out") == {"fp32.onnx", "README.md", "charts/risk.svg"}
    assert (tmp_path / "out" / "README.md").read_text() == CARD


def test_of_a_checkpoint_graphs_are_made_first(toy: Checkpoint, tmp_path: Path):
    checkpoints.save(toy, tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "card.toml").write_text('overview = "Finds the way home."')
    names = collected(tmp_path / "checkpoint", tmp_path / "out")
    assert {"fp32.onnx", "fp16.onnx", "model.safetensors", "config.json", "README.md", "card.json"} <= names
    assert "Finds the way home." in (tmp_path / "out" / "README.md").read_text()
    assert "architecture" in json.loads((tmp_path / "out" / "config.json").read_text())


def test_a_signed_bundle_goes_as_it_is(bundle: Path, toy: Checkpoint, tmp_path: Path):
    checkpoints.save(toy, bundle / "checkpoint")
    (bundle / "model.sig").write_text("a signature of all that is here")
    here = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    (bundle / ".gitattributes").write_text("which is not signed")
    assert collected(bundle, tmp_path / "out") == set(here)
    for name, content in here.items():
        assert (tmp_path / "out" / name).read_bytes() == content


def test_what_a_link_in_a_signed_bundle_leads_to_does_not_go(bundle: Path, tmp_path: Path):
    (tmp_path / "token").write_text("a secret of this machine")
    (bundle / "model.sig").write_text("a signature")
    (bundle / "charts" / "notes").symlink_to(tmp_path / "token")
    with pytest.raises(ExportError, match=r"charts/notes is a link, in a bundle that is signed; expected files alone"):
        collected(bundle, tmp_path / "out")


def test_any_other_folder_is_refused(tmp_path: Path):
    with pytest.raises(ExportError, match="photos is neither a bundle nor a checkpoint"):
        collected(tmp_path / "photos", tmp_path / "out")


def test_of_a_run_the_best_epoch_goes(toy: Checkpoint, tmp_path: Path):
    other = toy_checkpoint(num_blocks=1)
    for checkpoint, folder, epoch, top1 in ((toy, "run", 2, 0.5), (other, "run/best", 1, 0.75)):
        metrics = Metrics(data_set="maps", num_pictures=4, top1=top1, top5=1, calibration_error=0)
        spec = checkpoint.spec.model_copy(update={"metrics": metrics})
        history = {"history": [{"epoch": epoch}]}
        checkpoints.save(replace(checkpoint, spec=spec, training=history), tmp_path / folder)
    collected(tmp_path / "run", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_args"]["num_blocks"] == 1
