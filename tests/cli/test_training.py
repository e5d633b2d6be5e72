"""`mixer train` as a command: how it ends, how it is stopped, and what it says to do next."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner

from cli.main import app
from cli.training import end_lines
from model.network.run_folder import RESUME

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]
ROOT = Path(__file__).parent.parent.parent
SIZES = [
    *("--image-size", "8", "--patch-size", "4", "--hidden-dim", "8"),
    *("--num-blocks", "1", "--tokens-mlp-dim", "4", "--channels-mlp-dim", "8"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run, with "my photos" in it: two classes of eight pictures."""
    generator = np.random.default_rng(3)
    for label, level in (("dark", 40), ("light", 200)):
        (tmp_path / "my photos" / label).mkdir(parents=True)
        for index in range(8):
            pixels = (level + generator.integers(0, 30, (10, 10, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "my photos" / label / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def train(*flags: object) -> tuple[str, str]:
    """What a run prints on standard output and on standard error."""
    outcome = CliRunner().invoke(app, ["train", "my photos", "--out", "runs/a b", *SIZES, *map(str, flags)])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome.stdout, outcome.stderr


def with_a_better_best_epoch(run: Path) -> None:
    """Write into the run that its first epoch did better than its last."""
    for path, top1, epochs in ((run / "best" / "config.json", 0.75, 1), (run / "config.json", 0.5, 2)):
        content = json.loads(path.read_text())
        content["spec"]["metrics"]["top1"] = top1
        content["training"]["history"] = content["training"]["history"][:epochs]
        path.write_text(json.dumps(content))


# --- the end ---


def test_the_end_says_how_the_last_epoch_did_and_which_command_comes_next(folder: Path):
    told, _ = train("--epochs", 2)
    assert "runs/a b: last epoch 2, top-1 " in told
    assert told.splitlines()[-3:] == [
        "next:",
        "  mixer export 'runs/a b' 'bundles/a b' --data 'my photos'",
        "  mixer serve 'bundles/a b'",
    ]


def test_where_the_best_epoch_did_better_than_the_last_both_are_told(folder: Path):
    train("--epochs", 2)
    with_a_better_best_epoch(folder / "runs" / "a b")
    told = end_lines(Path("runs/a b"), Path("my photos"))
    assert told[0].startswith("runs/a b: last epoch 2, top-1 50.00% (95 % interval")
    assert told[1].startswith("runs/a b/best: best epoch 1, top-1 75.00% (95 % interval")
    assert told[2] == "mixer export and mixer evaluate take the best epoch's weights; --weights last takes the last"


def test_the_next_command_names_a_bundle_that_is_not_there_yet(folder: Path):
    (folder / "bundles" / "a b").mkdir(parents=True)
    assert "  mixer export 'runs/a b' 'bundles/a b-2' --data 'my photos'" in train("--epochs", 1)[0]


@pytest.mark.process
def test_the_commands_that_are_printed_run(folder: Path, environment: dict[str, str]):
    command = [sys.executable, "-m", "cli", "train", "my photos", "--out", "runs/a b", *SIZES, "--epochs", "1"]
    trained = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    export = trained.stdout.splitlines()[-2]
    exported = subprocess.run(
        ["/bin/sh", "-c", f"{export} --precisions fp32"], env=environment, capture_output=True, text=True, check=False
    )
    assert exported.returncode == 0, exported.stderr
    serve = shlex.split(trained.stdout.splitlines()[-1])
    assert serve[:4] == [sys.executable, "-m", "cli", "serve"]
    assert (folder / serve[4] / "fp32.onnx").is_file()


# --- best or last ---


@pytest.mark.parametrize(("flags", "taken"), [([], "best"), (["--weights", "last"], ".")])
def test_export_and_evaluate_take_the_best_weights_unless_told(folder: Path, flags: list[str], taken: str):
    train("--epochs", 2)
    run = folder / "runs" / "a b"
    with_a_better_best_epoch(run)
    assert not np.array_equal(
        load_file(run / "best" / "model.safetensors")["head.weight"],
        load_file(run / "model.safetensors")["head.weight"],
    )
    exported = CliRunner().invoke(app, ["export", "runs/a b", "bundle", "--precisions", "fp32", *flags])
    assert exported.exit_code == 0
    judged = CliRunner().invoke(app, ["evaluate", "runs/a b", "my photos", *flags])
    words = "runs/a b: taking runs/a b/best, epoch 1 with top-1 75.00%; the last, 2, has 50.00% (--weights last)"
    for told in (exported, judged):
        assert (words in told.stderr) == (taken == "best")
    spec = json.loads(CliRunner().invoke(app, ["inspect", "bundle"]).stdout)["spec"]
    assert spec["temperature"] == json.loads((run / taken / "config.json").read_text())["spec"]["temperature"]


def test_a_last_epoch_that_did_as_well_as_the_best_is_taken(folder: Path):
    train("--epochs", 1)
    assert "taking" not in CliRunner().invoke(app, ["evaluate", "runs/a b", "my photos"]).stderr


# --- stopped ---


class Running:
    """A run in a process of its own, whose lines on standard error are read as they come."""

    def __init__(self, environment: dict[str, str], *flags: str) -> None:
        command = [sys.executable, "-m", "cli", "train", "my photos", "--out", "runs/a b", *SIZES, *flags]
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.lines: Iterator[str] = iter(self.process.stderr)

    def read_to(self, start: str) -> str:
        return next(line for line in self.lines if line.startswith(start))


@pytest.mark.process
def test_a_stop_signal_saves_the_run_and_says_how_to_go_on(folder: Path, environment: dict[str, str]):
    running = Running(environment, "--epochs", "100000")
    with running.process as process:
        running.read_to("epoch 2:")
        process.send_signal(signal.SIGTERM)
        stopped = running.read_to("stopped; ")
        rest = "".join(running.lines)
    assert process.returncode == 128 + signal.SIGTERM
    assert re.match(r"stopped; runs/a b holds \d+ of 100000 epochs", stopped)
    assert "Traceback" not in rest
    assert "runs/a b/best is the epoch that has done best until now." in rest
    command = shlex.split(rest.splitlines()[-1])
    assert command[:5] == [sys.executable, "-m", "cli", "train", "my photos"]
    done = int(stopped.split(" holds ")[1].split()[0])
    command[-1] = str(done + 1)
    resumed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"going on with the run in runs/a b: {done} of {done + 1} epochs" in resumed.stderr
    assert f"{done + 1} epochs in place of 100000: from here the learning rate follows" in resumed.stderr


@pytest.mark.process
def test_a_stop_signal_before_training_says_that_nothing_is_saved(folder: Path, environment: dict[str, str]):
    os.mkfifo(folder / "labels")  # the command waits for its writer
    running = Running(environment, "--labels", "labels")
    with running.process as process, (folder / "labels").open("w"):  # somebody reads it: signals are listened to
        process.send_signal(signal.SIGINT)
        running.read_to("stopped before training began; nothing is saved in runs/a b.")
        rest = "".join(running.lines)
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert not (folder / "runs" / "a b" / RESUME).exists()
    assert "To go on, give the same command again:" in rest


def test_lines_are_written_where_no_terminal_shows_a_bar(folder: Path):
    _, told = train("--epochs", 2)
    assert "━" not in told
    assert "epoch 2: " in told
