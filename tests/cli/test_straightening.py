"""`mixer straighten`: a checkpoint learns to turn things back, and keeps it through export and the service's engine."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from app.engine.engine import EngineOptions, open_engine
from cli.main import app
from model.errors import CheckpointError
from model.network import checkpoint
from model.network.checkpoint import Checkpoint
from model.spec import Fit
from tests.model.toys import random_mixer, toy_config, toy_spec

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]

FRAMED = Fit(mode="pad", background="black", frame="thing")


def run(*arguments: object) -> str:
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome.stdout


def saved(folder: Path, fit: Fit) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    checkpoint.save(Checkpoint(random_mixer(toy_config()), toy_spec(fit=fit), {}, pixels), folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Tall bars on white, in class folders with a test split."""
    random = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 6)):
        for number, label in enumerate(toy_spec().labels):
            for index in range(count):
                picture = np.full((40, 40, 3), 255, np.uint8)
                picture[3:37, 14 - index % 3 : 24 + number] = random.integers(0, 120)
                path = tmp_path / "data" / split / label / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path)
    return tmp_path / "data"


def test_it_is_stored_told_of_and_taken_into_the_bundle(tmp_path: Path, data: Path) -> None:
    source = saved(tmp_path / "checkpoint", FRAMED)
    before = checkpoint.load(source)
    printed = run("straighten", source, data, "--beyond", 12, "--epochs", 2).splitlines()
    after = checkpoint.load(source)
    tilt = after.spec.fit.tilt
    assert tilt is not None
    assert (tilt.beyond, tilt.sizes) == (12, (196, 128, 32, 1))
    assert after.spec.model_copy(update={"fit": FRAMED}) == before.spec
    assert printed[0] == f"{source}: turns things back from 12 degrees on; data, validation:"
    assert [line.split(":")[0] for line in printed[1:]] == [
        f"turned by {degrees:2d} degrees" for degrees in (0, 10, 20, 30, 45)
    ]
    run("export", source, tmp_path / "bundle", "--precisions", "fp32", "--data", data)
    engine = open_engine(EngineOptions(tmp_path / "bundle", provider="cpu", max_batch_size=1))
    assert engine.spec.fit.tilt == tilt
    assert tilt.weights not in run("inspect", tmp_path / "bundle")


def test_it_learns_from_things_as_they_stand_when_it_is_done_again(tmp_path: Path, data: Path) -> None:
    source = saved(tmp_path / "checkpoint", FRAMED)
    run("straighten", source, data, "--epochs", 1)
    first = checkpoint.load(source).spec
    run("straighten", source, data, "--epochs", 1)
    assert checkpoint.load(source).spec == first


def test_a_fit_without_a_frame_around_the_thing_is_refused(tmp_path: Path, data: Path) -> None:
    source = saved(tmp_path / "checkpoint", Fit())
    with pytest.raises(CheckpointError, match="has the fit crop and the frame picture; expected pad and thing"):
        run("straighten", source, data)


def test_a_folder_without_training_pictures_is_refused(tmp_path: Path, data: Path) -> None:
    source = saved(tmp_path / "checkpoint", FRAMED)
    (data / "train").rename(data / "val")
    with pytest.raises(CheckpointError, match="has no training pictures"):
        run("straighten", source, data)
