"""Which pictures `mixer evaluate` judges by, and where its report and an export's bundle may lie."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from model.network import checkpoint
from model.network.checkpoint import Checkpoint
from model.network.mixer import MlpMixer
from model.recipe import Recipe
from tests.model.toys import toy_config, toy_spec, write_class

pytestmark = pytest.mark.training  # it loads torch


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run: "photos" of ten pictures in two classes, and a checkpoint, trained or imported."""
    for label, level in zip(toy_spec().labels, (10, 100), strict=True):
        write_class(tmp_path / "photos" / label, 5, level)
    for name, training in (("trained", {"recipe": Recipe(val_fraction=0.4).model_dump()}), ("imported", {})):
        checkpoint.save(Checkpoint(MlpMixer(toy_config()).eval(), toy_spec(), training), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _said(*words: str) -> str:
    outcome = CliRunner().invoke(app, list(words))
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome.stderr


@pytest.mark.parametrize(
    ("command", "first"),
    [
        (("trained",), "4 validation pictures (held out of the training pictures) of 2 classes\n"),
        (("trained", "--all"), "10 validation pictures of 2 classes\n"),
        (("imported",), "10 validation pictures of 2 classes\n"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_trained_checkpoint_is_judged_by_what_it_held_out_and_an_imported_one_by_all(
    command: tuple[str, ...], first: str
) -> None:
    source, *flags = command
    assert _said("evaluate", source, "photos", *flags).startswith(first)


@pytest.mark.usefixtures("folder")
def test_a_report_says_which_weights_it_is_of_and_how_they_were_trained() -> None:
    _said("evaluate", "trained", "photos", "--report", "report")
    page = Path("report/report.html").read_text(encoding="utf-8")
    recipe = Recipe()
    assert "<td>model</td><td>trained</td>" in page
    assert f"<td>{recipe.epochs} epochs, batches of {recipe.batch_size}, learning rate " in page


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "trained", "photos", "--report", "photos/report"),
        ("export", "trained", "photos/bundle", "--data", "photos"),
    ],
)
def test_nothing_is_written_among_the_pictures(folder: Path, command: tuple[str, ...]) -> None:
    before = sorted(folder.rglob("*"))
    assert CliRunner().invoke(app, list(command)).exit_code != 0
    with pytest.raises(Exception, match="is within DATA, photos; expected a folder outside of the pictures"):
        _said(*command)
    assert sorted(folder.rglob("*")) == before
