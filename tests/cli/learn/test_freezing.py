"""`mixer train` without a network of its own: a head, its bundle, and the commands that come next."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.learn.publishing import wants_bundle
from cli.learn.telling import table, tell_findings
from cli.main import app
from model.errors import ExportError
from model.network import checkpoint
from model.training.options import TrainOptions
from tests.model.toys import random_mixer, toy_config, toy_spec

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run: "photos" of two classes, and the default bundle with a network inside."""
    generator = np.random.default_rng(3)
    for label, level in (("dark", 40), ("light", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(8):
            pixels = (level + generator.integers(0, 30, (50, 50, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{index}.png")
    network = random_mixer(toy_config(channels=3))
    save = checkpoint.Checkpoint(network, toy_spec(channels=3, name="start"))
    checkpoint.save(save, tmp_path / "bundles" / "clothes" / "checkpoint")
    monkeypatch.setattr("model.training.start.choices._SHIPPED", tmp_path / "bundles" / "clothes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def run(*arguments: object) -> tuple[str, str]:
    """What a command prints on standard output and on standard error."""
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome.stdout, outcome.stderr


def test_one_command_makes_a_checkpoint_and_a_bundle_and_says_what_serves_it(folder: Path):
    out, told = run("train", "photos")
    assert (folder / "checkpoints" / "photos" / "model.safetensors").is_file()
    assert (folder / "bundles" / "photos" / "int8.onnx").is_file()
    assert "network     bundles/clothes" in told
    lines = out.splitlines()
    serve = lines[lines.index("next:") + 1]
    assert shlex.split(serve) == ["mixer", "serve", "bundles/photos"]
    assert '"dark"' in run("inspect", "bundles/photos")[0]
    assert lines[-1] == "  mixer train photos --init checkpoints/photos --unfreeze"


def test_a_bundle_needs_no_onnxscript_and_what_it_needs_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as where it is not installed
    assert run("train", "photos")[0].splitlines()[-3] == "  mixer serve bundles/photos"
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    out, told = run("train", "photos")
    assert "no bundle is written: that needs threadpoolctl, which scripts/install cpu,train,convert brings" in told
    assert "  mixer export checkpoints/photos bundles/photos" in out.splitlines()


def test_figures_on_some_of_the_classes_say_so(folder: Path):
    assert "onnx: top-1" in run("train", "photos")[0]
    (folder / "more" / "grey").mkdir(parents=True)
    for index in range(20):
        Image.new("RGB", (50, 50), (120, 120, 120 + index)).save(folder / "more" / "grey" / f"{index}.png")
    out, _ = run("train", "more", "--init", "checkpoints/photos", "--freeze", "--add")
    assert re.search(r"^bundles/more/int8.onnx: top-1 .*\) on 2 pictures, more, validation, 1 of 3 classes$", out, re.M)
    assert "more, validation, 1 of 3 classes" in (folder / "bundles" / "more" / "README.md").read_text()


def test_the_bundle_of_the_same_run_is_replaced_and_another_models_is_not(folder: Path):
    run("train", "photos")
    run("train", "photos")
    assert sorted(path.name for path in (folder / "bundles").iterdir()) == ["clothes", "photos"]
    run("train", "photos", "--name", "other")
    assert (folder / "bundles" / "photos-2" / "fp32.onnx").is_file()


def test_all_weights_go_on_from_the_head_with_its_classes_and_it_is_kept(folder: Path):
    run("train", "photos", "--no-bundle")
    out, told = run("train", "photos", "--init", "checkpoints/photos", "--unfreeze", "--epochs", 1, "--no-bundle")
    assert "start    checkpoints/photos (--init)" in told
    assert "rate 0.003" in told
    assert "checkpoints/photos-unfrozen: last epoch 1, top-1 100.00%" in out


def test_a_head_with_a_hidden_layer_is_published_gone_on_from_and_not_for_timm(folder: Path):
    _, told = run("train", "photos", "--init", "bundles/clothes", "--freeze", "--hidden", 8)
    assert "head        a hidden layer of 8, weight decay and rounds chosen by folds" in told
    assert (folder / "bundles" / "photos" / "int8.onnx").is_file()
    run("train", "photos", "--init", "checkpoints/photos", "--unfreeze", "--epochs", 1, "--no-bundle")
    assert checkpoint.load(folder / "checkpoints" / "photos-unfrozen").model.config.head_hidden_dim == 8
    with pytest.raises(ExportError, match=r"hidden layer of 8, which timm's Mixer has not"):
        run("export", "checkpoints/photos", "--timm", folder / "timm")
    assert not (folder / "timm").exists()


def test_networks_are_compared_in_one_table(folder: Path):
    out, _ = run("compare", "photos", "bundles/clothes", "bundles/clothes/checkpoint")
    assert "cross-validation of the training pictures, 14 pictures" in " ".join(out.split())
    assert out.count("100.00%") == 2
    assert out.splitlines()[-1] == "  mixer train photos --init bundles/clothes --freeze"


def test_a_network_that_cannot_be_had_is_named_beside_the_others(folder: Path):
    outcome = CliRunner().invoke(app, ["compare", "photos", "gone", "bundles/clothes", "timm:resnet50"])
    assert outcome.exit_code == 1
    assert outcome.stdout.count("100.00%") == 1
    rows = [line.split("│")[1:3] for line in outcome.stdout.splitlines() if "failed" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [["gone", "failed"], ["timm:resnet50", "failed"]]
    assert "gone failed: gone does not exist; expected a checkpoint folder." in outcome.stderr.splitlines()
    assert "timm:resnet50 failed: timm:resnet50 is not a checkpoint that is known here; expected" in outcome.stderr
    assert outcome.stdout.splitlines()[-1] == "  mixer train photos --init bundles/clothes --freeze"


def test_where_no_network_can_be_had_the_table_says_why(folder: Path):
    outcome = CliRunner().invoke(app, ["compare", "photos", "gone"])
    assert outcome.exit_code == 1
    assert "gone failed: gone does not exist" in outcome.stderr
    assert "next:" not in outcome.stdout


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, True),
        ({"out": Path("runs/a")}, False),
        ({"out": Path("runs/a"), "bundle": Path("b")}, True),
        ({"no_bundle": True}, False),
        ({"bundle": Path("b"), "no_bundle": True}, False),
    ],
)
def test_a_bundle_is_written_where_no_folder_is_given_or_one_for_it_is(given: dict[str, object], expected: bool):
    assert wants_bundle(TrainOptions(data=Path("photos"), **given)) is expected  # type: ignore[arg-type]


def test_doubts_come_once_in_a_table_after_what_a_set_holds(capsys: pytest.CaptureFixture[str]):
    tell_findings(["warning: few.", "2 classes", "skipped: a.png is broken.", "a note"])
    assert capsys.readouterr().err.splitlines() == [
        "2 classes",
        "a note",
        "  cannot be read  a.png is broken.",
        "  warning         few.",
    ]


def test_a_table_of_nothing_is_nothing():
    assert table([]) == []
