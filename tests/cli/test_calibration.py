"""`mixer calibrate`: an existing checkpoint gets what its answers tell of their certainty, and so does its bundle."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cli.main import app
from model.data.dataset import ImageSet
from model.errors import CheckpointError, DataError
from model.evaluation.confidence import fit_calibration
from model.evaluation.evaluate import all_logits
from model.network.checkpoint import Checkpoint, load, save, torch_logits
from model.spec import METADATA_KEY, ModelSpec
from tests.model.toys import random_mixer, toy_config, toy_images, toy_spec, write_image

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint that was never calibrated."""
    images = toy_images(40, 7).pixels
    save(Checkpoint(random_mixer(toy_config()), toy_spec(), {}, images), tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def write_split(folder: Path, images: ImageSet) -> None:
    for index, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        write_image(folder / toy_spec().labels[label] / f"{index:03}.png", pixels[:, :, 0])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_split(tmp_path / "data" / "val", toy_images(120, 5))
    write_split(tmp_path / "data" / "test", toy_images(20, 6))
    return tmp_path / "data"


def run(*arguments: object) -> str:
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome.stdout


def test_it_is_fitted_to_the_validation_pictures_and_stored(source: Path, data: Path) -> None:
    before = load(source)
    printed = run("calibrate", source, data).splitlines()
    after = load(source)
    images = toy_images(120, 5)
    logits = all_logits(lambda pixels: torch_logits(before.model, pixels), images)
    fitted = fit_calibration(logits, images.labels, "data, validation")
    assert after.spec.temperature == pytest.approx(fitted.temperature)
    assert (after.spec.energy_threshold, after.spec.conformal) == (fitted.energy_threshold, fitted.conformal)
    assert after.spec.metrics is not None
    assert (after.spec.metrics.data_set, after.spec.metrics.num_pictures) == ("data, validation", 120)
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], tensor)
    assert printed[0].startswith(f"{source}: temperature 1 -> {fitted.temperature:.4g}, calibration error ")
    assert printed[1] == f"energy threshold {fitted.energy_threshold}: 95 % of these pictures are not below it"
    assert [line.split(":")[0] for line in printed[2:5]] == [f"sets of coverage {share}" for share in (0.9, 0.95, 0.99)]
    assert len(printed) == 6
    assert re.fullmatch(r"on pictures left out of the fit: loss \d\.\d+, .+ \(10 folds, 5 times; .+\)", printed[5])


def test_few_pictures_give_no_threshold_and_no_sets(source: Path, data: Path) -> None:
    for path in sorted((data / "val").rglob("*.png"))[:21]:
        path.unlink()
    assert run("calibrate", source, data).splitlines()[1:] == [
        "no energy threshold and no sets: 99 pictures; expected at least 100"
    ]
    spec = load(source).spec
    assert (spec.temperature, spec.energy_threshold, spec.conformal) == (1.0, None, None)


def test_who_is_judged_by_the_pictures_of_the_fit_is_told_what_held_on_those_left_out(
    source: Path, data: Path, tmp_path: Path
) -> None:
    found = tmp_path / "found.json"
    run("calibrate", source, data)
    assert "left out" not in run("evaluate", source, data, "--json", found)
    assert json.loads(found.read_text(encoding="utf-8"))["cross_validated"] is None
    shutil.rmtree(data / "test")
    told = " ".join(run("evaluate", source, data, "--json", found).split())
    crossed = json.loads(found.read_text(encoding="utf-8"))["cross_validated"]
    assert f"calibrated with these pictures; on those left out of a fit: loss {crossed['loss']:.4f}, " in told
    assert [round(share, 1) for share in crossed["covered"]] == [0.9, 1.0, 1.0]


def test_test_pictures_are_not_calibrated_on(source: Path, data: Path) -> None:
    shutil.rmtree(data / "val")
    before = (source / "config.json").read_bytes()
    with pytest.raises(DataError, match="has test alone; expected val or train"):
        run("calibrate", source, data)
    assert (source / "config.json").read_bytes() == before


def test_a_network_that_gives_no_numbers_is_not_calibrated(source: Path, data: Path) -> None:
    broken = load(source)
    with torch.no_grad():
        broken.model.head.bias.fill_(float("nan"))
    save(broken, source)
    with pytest.raises(CheckpointError, match="cannot be calibrated: The logits are not all finite numbers"):
        run("calibrate", source, data)


def test_every_graph_of_an_export_has_it(source: Path, data: Path, tmp_path: Path) -> None:
    import onnxruntime  # noqa: PLC0415

    run("calibrate", source, data)
    run("export", source, tmp_path / "bundle")
    spec = load(source).spec
    graphs = sorted((tmp_path / "bundle").glob("*.onnx"))
    assert len(graphs) == 3
    for graph in graphs:
        stored = onnxruntime.InferenceSession(graph).get_modelmeta().custom_metadata_map[METADATA_KEY]
        exported = ModelSpec.model_validate_json(stored)
        assert (exported.energy_threshold, exported.conformal) == (spec.energy_threshold, spec.conformal)
    shown = json.loads(run("inspect", tmp_path / "bundle"))["spec"]
    assert shown["conformal"] == {"data_set": "data, validation", "num_pictures": 120}
