import dataclasses
import json
import math
import os
import platform
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.data.dataset import ImageSet, PreprocessConfig
from model.data.loading import load
from model.errors import CheckpointError, TrainingError, TrainingStopped
from model.evaluation.confidence import Calibration, fit_calibration
from model.evaluation.evaluate import Evaluation
from model.evaluation.journal import METRICS
from model.network import checkpoint, checkpoint_folder
from model.network.mixer import MlpMixer
from model.network.provenance import versions
from model.network.run_folder import RESUME
from model.preprocess import to_square
from model.spec import Fit
from model.training import optimizers
from model.training.precision import precision_for
from model.training.run import Run
from model.training.run_config import EpochReport, RunConfig, TrainCallbacks
from model.training.schedule import learning_rate
from model.training.teacher import Teacher
from model.training.train import BEST, main, train
from tests.model.toys import random_mixer, toy_config, toy_dataset, toy_images, toy_recipe, toy_spec, write_class

pytestmark = pytest.mark.training

CPU = torch.device("cpu")
CONFIG = toy_config()
TOTAL_STEPS = 9  # toy_recipe(): three epochs of three steps
ONE_STEP = toy_recipe(epochs=1, batch_size=40, warmup_epochs=0.0)
MIXED = {"mixup": 0.5, "cutmix": 0.5, "randaugment_layers": 1, "invert": 0.2}


class _KilledError(Exception):
    """Stands for the end of a process."""


def _train(out: Path, recipe: Any = None, **changes: Any) -> checkpoint.Checkpoint:
    settings = {"dataset": toy_dataset(), "config": CONFIG, "spec": toy_spec(), "device": CPU, **changes}
    return train(recipe=recipe or toy_recipe(), out=out, **settings)


def _kill_at(step: int) -> TrainCallbacks:
    def on_step(now: int, _total: int) -> None:
        if now == step:
            raise _KilledError

    return TrainCallbacks(on_step=on_step)


def _halves(pixels: Tensor) -> Tensor:
    """A teacher that knows what the toy pictures are about."""
    return pixels.float().mean((2, 3)).reshape(-1, 2, 4).mean(2).flip(1) / 16


def _weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / checkpoint_folder.WEIGHTS)


def _saved(out: Path) -> dict[str, Any]:
    return torch.load(out / RESUME, weights_only=True)  # type: ignore[no-any-return]


def _rows(out: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without the one column that is about the machine."""
    rows = [json.loads(line) for line in (out / METRICS).read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "images_per_s"} for row in rows]


def _expect_equal(one: Path, other: Path) -> None:
    assert _rows(one) == _rows(other)
    ours, theirs = _weights(one), _weights(other)
    assert ours.keys() == theirs.keys()
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    _train(out)
    return out


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one_epoch") / "run"
    _train(out, toy_recipe(epochs=1, warmup_epochs=0.0))
    return out


# --- learning ---


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"autocast": "bf16"},
        {"autocast": "fp16"},
        {"optimizer": "muon"},
        {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 1e-4},
        {"sam_rho": 0.05},
    ],
    ids=["adamw", "bf16", "fp16", "muon", "sgd", "sam"],
)
def test_a_toy_problem_is_learnt(tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = {"pad_crop": 0, "erase": 0.0, "label_smoothing": 0.0, "stochastic_depth": 0.0}
    settings = {"epochs": 20, "ema_decay": 0.8, **plain, **changes}
    trained = _train(tmp_path, toy_recipe(**settings))
    rows = _rows(tmp_path)
    assert rows[0]["train_loss"] > 0.5
    assert rows[-1]["train_loss"] < 0.1
    assert rows[-1]["val_top1"] == 1.0
    assert not trained.model.training


def test_the_checkpoint_holds_what_was_learnt_and_how(tmp_path: Path) -> None:
    dataset = toy_dataset("abc")
    returned = _train(tmp_path, dataset=dataset)
    loaded = checkpoint.load(tmp_path)
    last = _rows(tmp_path)[-1]
    assert loaded.spec == returned.spec
    assert loaded.spec.metrics is not None
    assert loaded.spec.metrics.num_pictures == len(dataset.val)
    assert loaded.spec.metrics.top1 == last["val_top1"]
    assert loaded.spec.metrics.calibration_error == last["val_calibration_error"]
    assert loaded.training["data"] == "abc"
    assert loaded.training["recipe"]["pad_crop"] == 1 / 8
    assert loaded.training["model"]["hidden_dim"] == CONFIG.hidden_dim
    assert [row["epoch"] for row in loaded.training["history"]] == [1, 2, 3]
    assert loaded.training["versions"] == versions()


@pytest.mark.parametrize(("count", "expected"), [(12, 12), (32, 32), (100, 32)])
def test_up_to_32_validation_pictures_prove_an_export(tmp_path: Path, count: int, expected: int) -> None:
    dataset = dataclasses.replace(toy_dataset(), val=toy_images(count, 5))
    images = _train(tmp_path, ONE_STEP, dataset=dataset).images
    assert images is not None
    assert len(images) == expected
    known = {pixels.tobytes() for pixels in dataset.val.pixels}
    assert {pixels.tobytes() for pixels in images} <= known
    np.testing.assert_array_equal(checkpoint.load(tmp_path).images, images)


def test_the_first_loss_is_the_logarithm_of_the_number_of_classes(tmp_path: Path) -> None:
    _train(tmp_path, ONE_STEP)
    assert _rows(tmp_path)[0]["train_loss"] == pytest.approx(math.log(2))


def test_a_callback_hears_of_every_step_and_every_epoch(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    reports: list[EpochReport] = []
    _train(tmp_path, callbacks=TrainCallbacks(on_step=lambda *step: steps.append(step), on_epoch=reports.append))
    assert steps == [(step, TOTAL_STEPS) for step in range(1, TOTAL_STEPS + 1)]
    lines = (tmp_path / METRICS).read_text(encoding="utf-8").splitlines()
    assert [dataclasses.asdict(report) for report in reports] == [json.loads(line) for line in lines]
    assert all(report.images_per_s > 0 for report in reports)


# --- chance ---


def test_the_same_seed_gives_the_same_weights_and_metrics(tmp_path: Path, uninterrupted: Path) -> None:
    torch.manual_seed(12345)  # whatever was drawn before
    _train(tmp_path)
    _expect_equal(tmp_path, uninterrupted)


def test_another_seed_gives_other_weights(tmp_path: Path, uninterrupted: Path) -> None:
    _train(tmp_path, toy_recipe(seed=1))
    assert not torch.equal(_weights(tmp_path)["head.weight"], _weights(uninterrupted)["head.weight"])


class _RecordingPixels(np.ndarray):
    """Training pixels that remember which were taken, in order."""

    taken: list[int]

    def __getitem__(self, key: Any) -> Any:
        self.taken.extend(key.tolist())
        return np.asarray(self)[key]


def test_every_epoch_shows_every_picture_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    dataset = toy_dataset()
    pixels = dataset.train.pixels.view(_RecordingPixels)
    pixels.taken = []
    _train(tmp_path, dataset=dataclasses.replace(dataset, train=ImageSet(pixels, dataset.train.labels)))
    epochs = np.reshape(pixels.taken, (3, 40))
    assert (np.sort(epochs, axis=1) == np.arange(40)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()} | {tuple(range(40))}) == 4


@pytest.mark.parametrize(
    "recipe",
    [
        toy_recipe(flip=0, pad_crop=0, erase=0),
        toy_recipe(label_smoothing=0.3),
        toy_recipe(clip_norm=0.01),
        toy_recipe(weight_decay=0.9),
        toy_recipe(optimizer="muon"),
        toy_recipe(optimizer="adam"),
        toy_recipe(sam_rho=0.05),
        toy_recipe(mixup=0.5),
        toy_recipe(cutmix=0.5),
        toy_recipe(randaugment_layers=1),
        toy_recipe(decay="linear"),
        toy_recipe(autocast="fp16"),
    ],
    ids=[
        *("augmentation", "label_smoothing", "clip_norm", "weight_decay", "muon", "adam"),
        *("sam_rho", "mixup", "cutmix", "randaugment_layers", "decay", "autocast"),
    ],
)
def test_every_part_of_the_recipe_counts(tmp_path: Path, one_epoch: Path, recipe: Any) -> None:
    _train(tmp_path, recipe.model_copy(update={"epochs": 1, "warmup_epochs": 0.0}))
    assert not torch.equal(_weights(tmp_path)["stem.weight"], _weights(one_epoch)["stem.weight"])


def test_the_momentum_of_sgd_counts(tmp_path: Path) -> None:
    for name, momentum in (("none", 0.0), ("some", 0.5)):
        _train(tmp_path / name, toy_recipe(optimizer="sgd", momentum=momentum))
    assert not torch.equal(_weights(tmp_path / "none")["stem.weight"], _weights(tmp_path / "some")["stem.weight"])


# --- a teacher ---


def test_a_teacher_is_learnt_from_against_the_labels(tmp_path: Path) -> None:
    dataset = toy_dataset()
    wrong = dataclasses.replace(dataset, train=ImageSet(dataset.train.pixels, 1 - dataset.train.labels))
    still = {"flip": 0.0, "pad_crop": 0.0, "erase": 0.0, "label_smoothing": 0.0, "stochastic_depth": 0.0}
    for name, weight in (("teacher", 1.0), ("labels", 0.0)):
        recipe = toy_recipe(epochs=20, ema_decay=0.8, distil_weight=weight, distil_temperature=2.0, **still)
        _train(tmp_path / name, recipe, dataset=wrong, teacher=Teacher(_halves))
    assert _rows(tmp_path / "teacher")[-1]["val_top1"] == 1.0
    assert _rows(tmp_path / "labels")[-1]["val_top1"] == 0.0


def test_without_a_teacher_its_weight_and_temperature_count_for_nothing(tmp_path: Path, uninterrupted: Path) -> None:
    _train(tmp_path, toy_recipe(distil_weight=0.3, distil_temperature=5.0))
    _expect_equal(tmp_path, uninterrupted)


def test_a_teacher_of_other_classes_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"gives \(16, 5\) for 16 pictures; expected \(16, 2\)"):
        _train(tmp_path, teacher=Teacher(lambda pixels: torch.zeros(len(pixels), 5)))


# --- the arithmetic of a step ---


def _initial_weights(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return checkpoint.MlpMixer(CONFIG).state_dict()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_weight_decay_shrinks_kernels_and_leaves_biases_and_norms(tmp_path: Path, optimizer: str) -> None:
    decayed, free = tmp_path / "decayed", tmp_path / "free"
    _train(decayed, ONE_STEP.model_copy(update={"optimizer": optimizer, "weight_decay": 0.5}))
    _train(free, ONE_STEP.model_copy(update={"optimizer": optimizer, "weight_decay": 0.0}))
    with_decay, without = _saved(decayed)["model"], _saved(free)["model"]
    for name, initial in _initial_weights().items():
        kernel = initial.ndim == 2
        shrunk = initial * (ONE_STEP.learning_rate * 0.5 if kernel else 0)
        torch.testing.assert_close(without[name] - with_decay[name], shrunk, rtol=0, atol=1e-6)


def test_muon_moves_the_kernels_of_the_blocks_and_adamw_all_else(tmp_path: Path) -> None:
    _train(tmp_path / "adamw", ONE_STEP)
    _train(tmp_path / "muon", ONE_STEP.model_copy(update={"optimizer": "muon"}))
    adamw, muon = _saved(tmp_path / "adamw")["model"], _saved(tmp_path / "muon")["model"]
    # at the first step the head is zero, so that only its own kernel has a gradient
    assert all(torch.equal(adamw[name], muon[name]) for name in adamw)
    _train(tmp_path / "two", ONE_STEP.model_copy(update={"epochs": 2}))
    _train(tmp_path / "two_muon", ONE_STEP.model_copy(update={"epochs": 2, "optimizer": "muon"}))
    adamw, muon = _saved(tmp_path / "two")["model"], _saved(tmp_path / "two_muon")["model"]
    differing = {name for name in adamw if not torch.equal(adamw[name], muon[name])}
    assert differing == {name for name in adamw if name.startswith("blocks.") and adamw[name].ndim == 2}


def test_the_checkpoint_is_the_moving_average_of_the_weights(tmp_path: Path) -> None:
    _train(tmp_path, ONE_STEP)
    last = _saved(tmp_path)["model"]
    for name, initial in _initial_weights().items():
        expected = 0.1 * initial + 0.9 * last[name]  # decay starts at (1 + 0) / (10 + 0)
        torch.testing.assert_close(_weights(tmp_path)[name], expected, rtol=0, atol=1e-6)


def test_a_second_step_moves_the_average_by_the_next_decay(tmp_path: Path) -> None:
    with pytest.raises(_KilledError):
        _train(tmp_path / "run", toy_recipe(batch_size=40), save_every_s=0, callbacks=_kill_at(2))
    first = _saved(tmp_path / "run")
    assert first["step"] == 1
    with pytest.raises(_KilledError):
        _train(tmp_path / "run", toy_recipe(batch_size=40), save_every_s=0, callbacks=_kill_at(3))
    second = _saved(tmp_path / "run")
    assert second["step"] == 2
    for name, average in first["average"].items():
        expected = average + (second["model"][name] - average) * (1 - 2 / 11)
        torch.testing.assert_close(second["average"][name], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("accumulate", [2, 7])
def test_a_batch_worked_through_in_parts_teaches_the_same(tmp_path: Path, accumulate: int) -> None:
    settings = {"batch_size": 15, "optimizer": "sgd", "learning_rate": 0.1, "sam_rho": 0.05, **MIXED}
    for parts in (1, accumulate):  # 40 pictures: the last batch has 10, which 7 parts do not all get some of
        _train(tmp_path / f"{parts}", toy_recipe(accumulate=parts, **settings), teacher=Teacher(_halves))
    whole, cut = _weights(tmp_path / "1"), _weights(tmp_path / f"{accumulate}")
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, rtol=0, atol=1e-5)
    for one, other in zip(_rows(tmp_path / "1"), _rows(tmp_path / f"{accumulate}"), strict=True):
        assert other == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_whose_gradients_overflow_moves_nothing(tmp_path: Path, optimizer: str) -> None:
    recipe = toy_recipe(optimizer=optimizer, autocast="fp16", warmup_epochs=0.0)
    initial, overflowed = random_mixer(CONFIG), []
    with torch.no_grad():
        initial.head.weight.mul_(1e-3)  # so that the head's gradients overflow long before the blocks'
    before = {name: tensor.clone() for name, tensor in initial.state_dict().items()}
    for power in range(8, 32, 2):
        run = Run(RunConfig(toy_dataset(), CONFIG, recipe, initial=initial), tmp_path)
        run.state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**power)
        run.step.take()
        moved = {not torch.equal(tensor, before[name]) for name, tensor in run.state.model.state_dict().items()}
        overflowed.append(run.state.scaler.get_scale() < 2.0**power)
        assert moved == {not overflowed[-1]}
    assert set(overflowed) == {False, True}


def test_ema_decay_bounds_the_moving_average(tmp_path: Path) -> None:
    _train(tmp_path, toy_recipe(ema_decay=0.0))
    last = _saved(tmp_path)["model"]
    assert not [name for name, tensor in _weights(tmp_path).items() if not torch.equal(tensor, last[name])]


@pytest.mark.parametrize("warmup", [0, 4])
def test_the_learning_rate_rises_linearly_then_falls_as_half_a_cosine(tmp_path: Path, warmup: int) -> None:
    epochs, peak = 12, 0.004
    recipe = toy_recipe(epochs=epochs, batch_size=40, learning_rate=peak, warmup_epochs=float(warmup))
    _train(tmp_path, recipe)

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * (1 + math.cos(math.pi * (step - warmup) / (epochs - warmup))) / 2

    # one step an epoch, and each row tells the rate of the step after it
    told = [row["learning_rate"] for row in _rows(tmp_path)]
    assert told == pytest.approx([rate(step) for step in range(1, epochs + 1)])
    groups = [group for optimizer in _saved(tmp_path)["optimizers"] for group in optimizer["param_groups"]]
    assert [group["lr"] for group in groups] == pytest.approx([rate(epochs - 1)] * len(groups))


# --- killed and resumed ---


@pytest.mark.parametrize(("save_every_s", "step"), [("0", 5), ("1e9", 8)], ids=["mid-epoch", "epoch-ends-only"])
def test_a_killed_process_goes_on_to_the_same_weights(
    tmp_path: Path, uninterrupted: Path, save_every_s: str, step: int
) -> None:
    out = tmp_path / "run"
    script = Path(__file__).with_name("stoppable_run.py")
    process = subprocess.Popen(
        [sys.executable, script, out, save_every_s],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        while int(process.stdout.readline()) < step:
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (out / checkpoint_folder.CONFIG).exists()
    saved = {"0": step - 1, "1e9": 6}[save_every_s]
    assert _saved(out)["step"] == saved

    heard: list[int] = []
    _train(
        out,
        toy_recipe(),
        save_every_s=float(save_every_s),
        callbacks=TrainCallbacks(on_step=lambda now, _total: heard.append(now)),
    )
    assert heard == list(range(saved + 1, TOTAL_STEPS + 1))
    _expect_equal(out, uninterrupted)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd"},
        {"optimizer": "muon"},
        {"sam_rho": 0.05},
        {**MIXED, "accumulate": 3},
        {"autocast": "fp16"},
        {"distil_weight": 0.5},
    ],
    ids=["sgd", "muon", "sam", "mixed", "fp16", "teacher"],
)
def test_a_run_killed_at_every_step_ends_in_the_same_weights(tmp_path: Path, changes: dict[str, Any]) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    recipe = toy_recipe(**changes)
    teacher = Teacher(_halves) if "distil_weight" in changes else None
    for step in range(1, TOTAL_STEPS + 1):
        with pytest.raises(_KilledError):
            _train(killed, recipe, teacher=teacher, callbacks=_kill_at(step), save_every_s=0)
    _train(killed, recipe, teacher=teacher)
    _train(whole, recipe, teacher=teacher)
    _expect_equal(killed, whole)
    for name, tensor in load_file(whole / BEST / checkpoint_folder.WEIGHTS).items():
        assert torch.equal(tensor, load_file(killed / BEST / checkpoint_folder.WEIGHTS)[name])


def test_the_scale_of_half_precision_is_picked_up_where_it_was_left(tmp_path: Path) -> None:
    recipe = toy_recipe(autocast="fp16")
    run = Run.open(RunConfig(toy_dataset(), CONFIG, recipe), tmp_path)
    run.state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)  # overflows, and is halved at every step
    with pytest.raises(_KilledError):
        run.go_on(_kill_at(2), 0)
    assert Run.open(RunConfig(toy_dataset(), CONFIG, recipe), tmp_path).state.scaler.get_scale() == 2.0**59


def test_a_run_that_is_not_opened_touches_no_folder(tmp_path: Path) -> None:
    run = Run(RunConfig(toy_dataset(), CONFIG, toy_recipe()), tmp_path / "run")
    run.step.take()
    assert run.state.step == 1
    assert list(tmp_path.iterdir()) == []


class _DyingPixels(np.ndarray):
    """Validation pixels under which the process ends when they are looked at."""

    def __getitem__(self, key: Any) -> Any:
        raise _KilledError


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_run_killed_while_it_evaluates_ends_in_the_same_weights_and_metrics(
    tmp_path: Path, uninterrupted: Path, epoch: int
) -> None:
    recipe, dataset = toy_recipe(), toy_dataset()
    with pytest.raises(_KilledError):
        _train(tmp_path, recipe, callbacks=_kill_at(3 * epoch), save_every_s=0)
    dying = ImageSet(dataset.val.pixels.view(_DyingPixels), dataset.val.labels)
    with pytest.raises(_KilledError):
        _train(tmp_path, recipe, dataset=dataclasses.replace(dataset, val=dying), save_every_s=0)
    _train(tmp_path, recipe)
    _expect_equal(tmp_path, uninterrupted)


def test_metrics_lost_after_the_last_save_are_written_again(tmp_path: Path, uninterrupted: Path) -> None:
    _train(tmp_path)
    (tmp_path / METRICS).unlink()
    (tmp_path / checkpoint_folder.CONFIG).unlink()
    _train(tmp_path)
    _expect_equal(tmp_path, uninterrupted)


def test_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    _train(tmp_path)
    before = _weights(tmp_path)
    steps: list[int] = []
    _train(tmp_path, callbacks=TrainCallbacks(on_step=lambda step, _total: steps.append(step)))
    assert steps == []
    assert not [name for name, tensor in _weights(tmp_path).items() if not torch.equal(tensor, before[name])]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": toy_recipe(learning_rate=0.5)}, "with learning_rate 0.01 .now 0.5."),
        ({"recipe": toy_recipe(seed=7)}, "with seed 0 .now 7."),
        ({"recipe": toy_recipe(flip=0.1)}, "with flip 0.5 .now 0.1."),
        (
            {"recipe": toy_recipe(flip=0.1, seed=7, compile=True)},
            "flip 0.5 .now 0.1., .*compile false .now true., .*seed 0",
        ),
        ({"recipe": toy_recipe(stochastic_depth=0.1)}, "with stochastic_depth 0.2 .now 0.1."),
        ({"config": toy_config(hidden_dim=24)}, "with hidden_dim 16 .now 24."),
        ({"dataset": toy_dataset("other")}, "on other data. To go on"),
        ({"initial": random_mixer(CONFIG)}, "from other initial weights. .*to begin anew, give another --out"),
        ({"teacher": Teacher(_halves, "somebody")}, "with another teacher"),
    ],
)
def test_a_run_with_other_settings_is_not_resumed_and_names_all_of_them(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(_KilledError):
        _train(tmp_path, callbacks=_kill_at(4))
    before = (tmp_path / RESUME).read_bytes()
    with pytest.raises(TrainingError, match=message):
        _train(tmp_path, **changes)
    assert (tmp_path / RESUME).read_bytes() == before


def test_how_often_to_save_may_change_between_two_halves_of_a_run(tmp_path: Path, uninterrupted: Path) -> None:
    with pytest.raises(_KilledError):
        _train(tmp_path, callbacks=_kill_at(5), save_every_s=0)
    _train(tmp_path, save_every_s=1e9)
    _expect_equal(tmp_path, uninterrupted)


def test_a_finished_checkpoint_is_never_trained_over(tmp_path: Path) -> None:
    _train(tmp_path)
    (tmp_path / RESUME).unlink()
    before = _weights(tmp_path)
    with pytest.raises(TrainingError, match="already holds a checkpoint; expected a new folder or a killed run's"):
        _train(tmp_path)
    assert not (tmp_path / RESUME).exists()
    assert torch.equal(_weights(tmp_path)["head.weight"], before["head.weight"])


def test_a_save_has_the_form_that_earlier_versions_wrote_and_read(uninterrupted: Path) -> None:
    saved = _saved(uninterrupted)
    assert list(saved) == [
        *("identity", "step", "epoch_loss", "history", "model", "average", "optimizers", "scaler"),
    ]
    assert saved["average"].keys() == saved["model"].keys() == _weights(uninterrupted).keys()


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut short"])
def test_a_broken_save_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RESUME).write_bytes(content)
    with pytest.raises(TrainingError, match=f"{RESUME} cannot be read"):
        _train(tmp_path)


def test_a_save_that_is_something_else_is_named(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / RESUME)
    with pytest.raises(TrainingError, match=f"{RESUME} cannot be read"):
        _train(tmp_path)


# --- another precision, another version ---


@pytest.mark.parametrize(("first", "second"), [("off", "bf16"), ("bf16", "off"), ("fp16", "bf16"), ("bf16", "fp16")])
def test_a_run_goes_on_in_another_precision_and_says_so(tmp_path: Path, first: str, second: str) -> None:
    with pytest.raises(_KilledError):
        _train(tmp_path, toy_recipe(autocast=first), callbacks=_kill_at(7))
    heard = _notes(tmp_path, toy_recipe(autocast=second))
    assert heard[1:] == [f"precision {second} in place of {first} from here on"]
    assert [row["epoch"] for row in _rows(tmp_path)] == [1, 2, 3]
    assert checkpoint.load(tmp_path).training["recipe"]["autocast"] == second


def test_auto_goes_on_with_what_it_was_and_is_saved_as_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(_KilledError):
        _train(tmp_path, toy_recipe(autocast="auto"), callbacks=_kill_at(4))
    chosen = precision_for("auto", CPU)
    assert _saved(tmp_path)["identity"]["recipe"]["autocast"] == chosen
    assert len(_notes(tmp_path, toy_recipe(autocast=chosen))) == 1


def test_a_processor_without_bf16_learns_what_another_began_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    _train(tmp_path, toy_recipe(autocast="auto", epochs=2))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    heard = _notes(tmp_path, toy_recipe(autocast="auto", epochs=4))
    assert "precision off in place of bf16 from here on" in heard
    assert len(_rows(tmp_path)) == 4


def test_a_run_that_was_saved_before_a_setting_was_there_goes_on_with_its_default(
    tmp_path: Path, uninterrupted: Path
) -> None:
    with pytest.raises(_KilledError):
        _train(tmp_path, callbacks=_kill_at(4))
    saved = _saved(tmp_path)
    del saved["identity"]["recipe"]["crop_scale"]
    torch.save(saved, tmp_path / RESUME)
    with pytest.raises(TrainingError, match=r"with crop_scale 0\.0 .now 0\.5."):
        _train(tmp_path, toy_recipe(crop_scale=0.5))
    _train(tmp_path)
    _expect_equal(tmp_path, uninterrupted)


def test_a_run_goes_on_with_what_torchs_own_muon_has_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = toy_recipe(optimizer="muon")

    def torchs(kernels: Any, *, lr: float, weight_decay: float) -> torch.optim.Muon:
        return torch.optim.Muon(kernels, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    stacked = optimizers.StackedMuon
    monkeypatch.setattr(optimizers, "StackedMuon", torchs)
    with pytest.raises(_KilledError):
        _train(tmp_path / "torchs", recipe, callbacks=_kill_at(5), save_every_s=0)
    assert any("momentum_buffer" in state for state in _saved(tmp_path / "torchs")["optimizers"][0]["state"].values())
    monkeypatch.setattr(optimizers, "StackedMuon", stacked)
    _train(tmp_path / "torchs", recipe)
    _train(tmp_path / "stacked", recipe)
    ours, theirs = _weights(tmp_path / "stacked"), _weights(tmp_path / "torchs")
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=0, atol=2e-3)  # products rounded to bf16, nine steps


# --- the pace ---


def test_after_20_steps_the_end_of_the_run_is_told(tmp_path: Path) -> None:
    (line,) = _notes(tmp_path, toy_recipe(epochs=8))
    assert re.fullmatch(r"\d+ images/s; expected to end at .*, in \d+ s", line)


# --- told to stop, longer, shorter ---


def _notes(out: Path, recipe: Any = None, **changes: Any) -> list[str]:
    heard: list[str] = []
    _train(out, recipe, callbacks=TrainCallbacks(on_note=heard.append), **changes)
    return heard


def _stopped(out: Path, step: int) -> str:
    """Train until `step` is done, and be told to stop there; what is said."""
    steps: list[int] = []
    callbacks = TrainCallbacks(on_step=lambda now, _total: steps.append(now), should_stop=lambda: steps[-1] == step)
    with pytest.raises(TrainingStopped) as caught:
        _train(out, callbacks=callbacks, save_every_s=1e9)
    assert steps[-1] == step
    return str(caught.value)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (1, "0 of 3 epochs and 1 of 3 steps of the next"),
        (5, "1 of 3 epochs and 2 of 3 steps of the next"),
        (6, "2 of 3 epochs"),
    ],
)
def test_a_run_that_is_told_to_stop_saves_the_step_and_goes_on_to_the_same_weights(
    tmp_path: Path, uninterrupted: Path, step: int, words: str
) -> None:
    assert _stopped(tmp_path, step) == f"stopped; {tmp_path} holds {words}"
    assert _saved(tmp_path)["step"] == step
    assert _notes(tmp_path) == [f"going on with the run in {tmp_path}: {words} are done"]
    _expect_equal(tmp_path, uninterrupted)


def test_a_run_that_is_told_to_stop_in_its_last_step_ends(tmp_path: Path, uninterrupted: Path) -> None:
    steps: list[int] = []
    callbacks = TrainCallbacks(
        on_step=lambda now, _total: steps.append(now), should_stop=lambda: steps[-1] == TOTAL_STEPS
    )
    _train(tmp_path, callbacks=callbacks)
    _expect_equal(tmp_path, uninterrupted)


def test_a_new_run_says_nothing_of_going_on(tmp_path: Path) -> None:
    assert _notes(tmp_path) == []


def test_a_finished_run_says_that_it_is_and_how_to_go_on_or_begin_anew(tmp_path: Path) -> None:
    _train(tmp_path)
    (line,) = _notes(tmp_path)
    assert line.startswith(f"{tmp_path} holds a run that is finished: 3 of 3 epochs. More --epochs go on with it;")
    assert line.endswith("to begin anew, give another --out, or delete that folder first.")


@pytest.mark.parametrize("step", [5, TOTAL_STEPS], ids=["stopped", "finished"])
def test_more_epochs_go_on_with_a_run_at_the_rates_of_the_new_length(tmp_path: Path, step: int) -> None:
    if step == TOTAL_STEPS:
        _train(tmp_path)
    else:
        _stopped(tmp_path, step)
    longer = toy_recipe(epochs=6)
    rate = learning_rate(step, 3, longer)
    assert _notes(tmp_path, longer)[-1] == (
        f"6 epochs in place of 3: from here the learning rate follows the schedule of 6, and is {rate:.3g}"
    )
    rows = _rows(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[4]["learning_rate"] == pytest.approx(learning_rate(15, 3, longer))
    assert checkpoint.load(tmp_path).training["recipe"]["epochs"] == 6


def test_a_longer_run_is_picked_up_at_its_new_length(tmp_path: Path) -> None:
    _stopped(tmp_path, 5)
    longer = toy_recipe(epochs=6)
    with pytest.raises(_KilledError):
        _train(tmp_path, longer, callbacks=_kill_at(8), save_every_s=0)
    assert _notes(tmp_path, longer) == [
        f"going on with the run in {tmp_path}: 2 of 6 epochs and 1 of 3 steps of the next are done"
    ]


def test_fewer_epochs_end_a_run_sooner_but_not_before_what_is_done(tmp_path: Path) -> None:
    _stopped(tmp_path, 5)
    with pytest.raises(TrainingError, match=r"--epochs is 1; the run in .* has done 1.667 of its 3 epochs. Give more"):
        _train(tmp_path, toy_recipe(epochs=1))
    assert "2 epochs in place of 3" in _notes(tmp_path, toy_recipe(epochs=2))[-1]
    assert len(_rows(tmp_path)) == 2


# --- the best and the last ---


def test_the_best_epochs_weights_are_kept_beside_the_last_ones(tmp_path: Path) -> None:
    dataset = toy_dataset()  # judged by what it knows at first, and then learns the opposite of: the longer, the worse
    knowing = _train(tmp_path / "knowing", toy_recipe(epochs=6), dataset=dataset).model
    dataset = dataclasses.replace(dataset, train=ImageSet(dataset.train.pixels, 1 - dataset.train.labels))
    recipe = toy_recipe(epochs=6, ema_decay=0.5)
    heard: list[tuple[dict[str, Tensor], Evaluation]] = []

    def on_best(model: MlpMixer, evaluation: Evaluation, _calibration: Calibration) -> None:
        heard.append(({name: tensor.clone() for name, tensor in model.state_dict().items()}, evaluation))

    _train(tmp_path, recipe, dataset=dataset, callbacks=TrainCallbacks(on_best=on_best), initial=knowing)
    rows = _rows(tmp_path)
    top1 = [row["val_top1"] for row in rows]
    best = top1.index(max(top1)) + 1
    assert best < len(rows)
    assert top1[-1] < max(top1)
    with pytest.raises(_KilledError):
        _train(
            tmp_path / "again",
            recipe,
            dataset=dataset,
            initial=knowing,
            callbacks=_kill_at(3 * best + 1),
            save_every_s=1e9,
        )
    average = _saved(tmp_path / "again")["average"]  # at the end of the best epoch
    for name, tensor in load_file(tmp_path / BEST / checkpoint_folder.WEIGHTS).items():
        assert torch.equal(tensor, average[name])
        assert torch.equal(tensor, heard[-1][0][name])
    assert not torch.equal(average["head.weight"], _weights(tmp_path)["head.weight"])
    kept, last = checkpoint.load(tmp_path / BEST), checkpoint.load(tmp_path)
    assert kept.spec.metrics is not None
    assert last.spec.metrics is not None
    assert (kept.spec.metrics.top1, last.spec.metrics.top1) == (max(top1), top1[-1])
    assert heard[-1][1].top1 == max(top1)
    assert kept.training["step"] == 3 * best
    assert [row["epoch"] for row in kept.training["history"]] == list(range(1, best + 1))
    np.testing.assert_array_equal(kept.images, last.images)  # type: ignore[arg-type]


def test_an_epoch_that_only_equals_the_best_is_not_kept(tmp_path: Path) -> None:
    best: list[float] = []
    callbacks = TrainCallbacks(on_best=lambda _model, evaluation, _calibration: best.append(evaluation.top1))
    _train(tmp_path, toy_recipe(epochs=10, ema_decay=0.5), callbacks=callbacks)
    top1 = [row["val_top1"] for row in _rows(tmp_path)]
    assert top1.count(max(top1)) > 1
    assert best == sorted(set(best))
    assert checkpoint.load(tmp_path / BEST).training["step"] == 3 * (top1.index(max(top1)) + 1)


@pytest.mark.parametrize("folder", [".", BEST])
def test_the_calibration_and_its_error_belong_to_the_weights(tmp_path: Path, folder: str) -> None:
    dataset = dataclasses.replace(toy_dataset(), val=toy_images(120, 5))
    _train(tmp_path, toy_recipe(epochs=2, learning_rate=0.05, ema_decay=0.0), dataset=dataset)
    kept = checkpoint.load(tmp_path / folder)
    logits = torch.from_numpy(checkpoint.torch_logits(kept.model, dataset.val.pixels)).double()
    top, predicted = (logits / kept.spec.temperature).softmax(1).max(1)
    right = predicted.numpy() == dataset.val.labels
    bins = (top * 15).int().clamp(max=14).numpy()
    gaps = [abs((top.numpy() - right)[bins == index].sum()) for index in range(15)]
    assert kept.spec.temperature not in (1.0, 0.25, 4.0)
    assert kept.spec.metrics is not None
    assert kept.spec.metrics.calibration_error == pytest.approx(sum(gaps) / 120, abs=1e-6)
    assert kept.spec.energy_threshold is not None
    assert kept.spec.conformal is not None
    assert fit_calibration(logits.numpy(), dataset.val.labels, "validation split").completed(kept.spec) == kept.spec


# --- from the command line ---

TINY = (
    *("--image-size", "8", "--patch-size", "4", "--channels", "1", "--hidden-dim", "8", "--num-blocks", "1"),
    *("--tokens-mlp-dim", "4", "--channels-mlp-dim", "8", "--epochs", "1", "--val-fraction", "0.4"),
)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    write_class(tmp_path / "data" / "dark", 5, 20)
    write_class(tmp_path / "data" / "light", 5, 200)
    return tmp_path / "data"


def _command(folders: Path, out: str, *flags: object) -> checkpoint.Checkpoint:
    main([str(folders), "--out", str(folders.parent / out), *map(str, flags)])
    return checkpoint.load(folders.parent / out)


def test_the_command_trains_and_says_how_each_epoch_went(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = _command(folders, "out", *TINY, "--name", "shades", "--license", "CC0-1.0", "--epochs", 2)
    assert trained.spec.labels == ("dark", "light")
    assert (trained.spec.name, trained.spec.source.license) == ("shades", "CC0-1.0")
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == [
        "2 classes: 6 training pictures, 4 validation pictures (held out of the training pictures)",
        "training + validation pictures: dark 3 + 2, light 3 + 2",
    ]
    assert told[2].startswith("warning: 4 validation pictures are few to judge by")
    assert told[3:5] == [
        "6 training pictures: batches of 8 in place of 128, 2 epochs, 2 steps in all; "
        "--batch-size and --epochs set others",
        "start: random weights; --init MODEL takes a trained network's",
    ]
    assert "warning: 2 steps are few to learn in; a smaller --batch-size or more --epochs give more." in told
    assert [line.split(":")[0] for line in told[-2:]] == ["epoch 1", "epoch 2"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "0"], "--epochs is '0': input should be greater than or equal to 1."),
        (["--teacher", "no.onnx"], "the teacher no.onnx does not exist; expected a checkpoint folder or an ONNX file."),
        (
            ["--no-such-flag", "1"],
            "--no-such-flag is no option of python -m model.training.train. See python -m model.training.train --help.",
        ),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    folders: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        _command(folders, "out", *TINY, *flags)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"model.training.train: {message}"


def test_bf16_is_refused_before_a_picture_is_read_on_a_processor_without_it_and_trains_where_that_is_insisted_on(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(SystemExit):
        _command(folders, "out", *TINY, "--device", "cpu", "--autocast", "bf16")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("model.training.train: --autocast is 'bf16'; this processor has neither")
    trained = _command(folders, "out", *TINY, "--device", "cpu", "--autocast", "bf16", "--allow-slow-autocast")
    assert "warning: --autocast is 'bf16'" in capsys.readouterr().err
    assert trained.training["recipe"]["autocast"] == "bf16"
    trained = _command(folders, "auto", *TINY, "--device", "cpu")
    assert "precision: float32, as the processor has no bfloat16 instructions" in capsys.readouterr().err
    assert trained.training["recipe"]["autocast"] == "off"


@pytest.mark.parametrize("crop_scale", [0.0, 0.3])
def test_a_streamed_run_that_is_killed_at_a_step_ends_in_the_same_weights(folders: Path, crop_scale: float) -> None:
    dataset = load(folders, PreprocessConfig(8, 1), val_fraction=0.4, stream=True)
    recipe = toy_recipe(batch_size=4, crop_scale=crop_scale)
    out, kept = folders.parent / "killed", load(folders, PreprocessConfig(8, 1), val_fraction=0.4, stream=False)
    for step in (1, 2, 5):
        with pytest.raises(_KilledError):
            _train(out, recipe, dataset=dataset, callbacks=_kill_at(step), save_every_s=0)
    _train(out, recipe, dataset=dataset)
    _train(folders.parent / "whole", recipe, dataset=dataset if crop_scale else kept)
    _expect_equal(out, folders.parent / "whole")


def test_the_command_says_that_it_streams_and_goes_on_from_memory(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _command(folders, "out", *TINY, "--stream")
    assert "pictures are decoded while the network trains; as pixels they would take" in capsys.readouterr().err
    _command(folders, "out", *TINY, "--no-stream", "--epochs", 2)
    told = capsys.readouterr().err
    assert "pictures are decoded" not in told
    assert "2 epochs in place of 1" in told


def test_a_dark_background_is_what_the_network_learns_from_and_what_it_asks_for(folders: Path) -> None:
    flags = [*TINY, "--fit", "stretch", "--background", "dark"]
    trained = _command(folders, "out", *flags)
    assert trained.spec.fit == Fit(mode="stretch", background="dark")
    assert trained.images is not None
    assert trained.images.max() < 128  # the light ones too
    assert (to_square(trained.images[0], 8, trained.spec.fit, "bicubic") == trained.images[0]).all()


@pytest.mark.parametrize(
    ("flags", "fit"),
    [
        ([], Fit(mode="stretch", background="dark")),
        (["--fit", "crop"], Fit(mode="crop", background="dark")),
        (["--background", "any"], Fit(mode="stretch", background="any")),
        (["--fit", "pad", "--background", "any"], Fit(mode="pad", background="any")),
    ],
    ids=["neither", "fit", "background", "both"],
)
def test_a_start_from_a_checkpoint_keeps_how_its_pictures_enter_unless_told(
    folders: Path, flags: list[str], fit: Fit
) -> None:
    _command(folders, "first", *TINY, "--fit", "stretch", "--background", "dark")
    tuned = _command(folders, "second", "--init", folders.parent / "first", "--epochs", 1, *flags)
    assert tuned.spec.fit == fit
    assert tuned.training["recipe"]["optimizer"] == "sgd"


def test_a_checkpoint_teaches_another(folders: Path) -> None:
    _command(folders, "first", *TINY)
    taught = _command(folders, "second", *TINY, "--teacher", folders.parent / "first", "--seed", 0)
    alone = _command(folders, "third", *TINY)
    assert taught.training["teacher"] is not None
    assert alone.training["teacher"] is None
    assert not torch.equal(taught.model.head.weight, alone.model.head.weight)


# --- what stops a run ---


def test_a_loss_that_is_not_finite_stops_the_run_and_overwrites_nothing(tmp_path: Path) -> None:
    recipe = toy_recipe(learning_rate=1e30, warmup_epochs=0.0)
    with pytest.raises(_KilledError):
        _train(tmp_path, recipe, callbacks=_kill_at(1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(
        TrainingError, match=r"the loss is nan by step \d; try a --learning-rate below .*, in another --out"
    ):
        _train(tmp_path, recipe)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_last_step_that_ruins_the_weights_is_a_training_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not all finite"):
        _train(tmp_path, ONE_STEP.model_copy(update={"learning_rate": 1e30}))
    assert not (tmp_path / checkpoint_folder.CONFIG).exists()


@pytest.mark.parametrize("name", ["run", "file/run"])
def test_a_folder_that_cannot_be_written_is_known_before_the_first_step(tmp_path: Path, name: str) -> None:
    (tmp_path / name.split("/", maxsplit=1)[0]).touch()
    with pytest.raises(TrainingError, match=f"{name} cannot be written"):
        _train(tmp_path / name, callbacks=_kill_at(1))


def test_a_checkpoint_that_cannot_be_put_in_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / checkpoint_folder.WEIGHTS / "full").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="cannot be written"):
        _train(tmp_path, ONE_STEP)


@contextmanager
def _a_full_disk(most_bytes: int) -> Iterator[None]:
    """Inside, no file grows beyond this."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts}


def test_a_disk_that_is_full_ends_a_run_in_words_and_what_was_saved_goes_on(
    tmp_path: Path, uninterrupted: Path
) -> None:
    with pytest.raises(_KilledError):
        _train(tmp_path, callbacks=_kill_at(5), save_every_s=0)
    before = _files(tmp_path)
    with _a_full_disk(4000), pytest.raises(TrainingError, match=r"cannot be written: .* MiB are free; .*Make room"):
        _train(tmp_path, save_every_s=0)
    assert _files(tmp_path) == before
    _train(tmp_path)
    _expect_equal(tmp_path, uninterrupted)


def test_a_disk_that_is_full_leaves_the_checkpoint_before_whole(tmp_path: Path) -> None:
    trained = _train(tmp_path)
    before = _files(tmp_path)
    with _a_full_disk(4000), pytest.raises(CheckpointError, match=r"cannot be written: .* MiB are free"):
        checkpoint.save(trained, tmp_path)
    assert _files(tmp_path) == before
