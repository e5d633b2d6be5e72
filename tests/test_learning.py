"""The commands that learn: mistakes are one line, and nothing is loaded that is not needed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from app.cli import app
from app.errors import BadSettings
from app.learning import TrainOptions, _need
from model.errors import DataError, MixerError
from model.recipe import Recipe

runner = CliRunner()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generator = np.random.default_rng(3)
    for label, level in (("dark", 40), ("light", 200)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(8):
            pixels = (level + generator.integers(0, 30, (10, 10, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{index}.png")
    return tmp_path / "data"


TINY = "--image-size 8 --patch-size 4 --hidden-dim 8 --num-blocks 1 --tokens-mlp-dim 4 --channels-mlp-dim 8 --epochs 2"


def run(*arguments: object) -> str:
    """What a command prints; whatever it raises is raised here."""
    outcome = runner.invoke(app, [str(argument) for argument in arguments])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome.stdout


def idx_folder(folder: Path, labels: list[int]) -> Path:
    folder.mkdir()
    count = len(labels)
    images = np.arange(count * 64, dtype=np.uint32).astype(np.uint8).tobytes()
    for split in ("train", "t10k"):
        header = b"\0\0\x08\3" + b"".join(number.to_bytes(4, "big") for number in (count, 8, 8))
        (folder / f"{split}-images-idx3-ubyte").write_bytes(header + images)
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1" + count.to_bytes(4, "big") + bytes(labels))
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "0"], "--epochs is '0': input should be greater than or equal to 1."),
        (["--optimiser", "sgd"], "--optimiser is 'sgd': input should be 'adamw' or 'muon'."),
        (["--fit", "squeeze"], "--fit is 'squeeze': input should be 'crop', 'pad' or 'stretch'."),
        (["--no-such-flag", "1"], "unrecognized arguments: --no-such-flag 1. See mixer train --help."),
    ],
)
def test_an_impossible_flag_is_one_line(data: Path, flags: list[str], message: str):
    with pytest.raises(BadSettings) as caught:
        run("train", data, "--out", data.parent / "out", *flags)
    assert str(caught.value) == message
    assert not (data.parent / "out").exists()


def test_training_needs_data_and_a_folder_to_write():
    with pytest.raises(BadSettings, match=r"required: DATA.* See mixer train --help"):
        run("train")
    with pytest.raises(BadSettings, match="--out"):
        run("train", "data")


def test_sizes_that_do_not_fit_each_other_are_named(data: Path):
    with pytest.raises(MixerError, match="image_size is 10; expected a multiple of patch_size 4"):
        run("train", data, "--out", data.parent / "out", "--image-size", 10, "--patch-size", 4)


def test_a_run_does_not_depend_on_the_environment(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EPOCHS", "0")
    monkeypatch.setenv("MIXER_EPOCHS", "0")
    assert "validation pictures" in run("train", data, "--out", data.parent / "out", *TINY.split())


def test_every_flag_of_training_is_explained():
    assert not [name for name, field in TrainOptions.model_fields.items() if not field.description]
    assert set(Recipe.model_fields) < set(TrainOptions.model_fields)


def test_idx_files_take_their_names_from_a_file_and_are_judged_on_their_test_split(tmp_path: Path):
    data = idx_folder(tmp_path / "idx", [0, 1] * 10)
    (tmp_path / "labels.txt").write_text("even\nodd\n")
    grey = [*TINY.split(), "--channels", 1, "--labels", tmp_path / "labels.txt"]
    run("train", data, "--out", tmp_path / "checkpoint", *grey)
    run("export", tmp_path / "checkpoint", tmp_path / "bundle", "--data", data)
    assert "idx, test" in run("evaluate", tmp_path / "bundle", data)
    assert '"even"' in run("inspect", tmp_path / "bundle")


def test_data_with_other_classes_is_refused(data: Path):
    run("train", data, "--out", data.parent / "out", *TINY.split())
    (data / "light").rename(data / "bright")
    with pytest.raises(DataError, match="has the classes bright, dark; expected dark, light"):
        run("evaluate", data.parent / "out", data)


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    with pytest.raises(MixerError, match=r"needs no_such_module; install it with: pip install 'mixer-serve\[train\]'"):
        _need("no_such_module", "train")
