"""Runs whose teacher need see each view only once, against runs in which it sees them every time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.evaluation.journal import METRICS
from model.network import checkpoint_folder
from model.network.run_folder import LESSONS, LESSONS_KEY
from model.recipe import Recipe
from model.training.run_config import TrainCallbacks
from model.training.stored_logits import StoredLogits, key_of
from model.training.teacher import Teacher
from model.training.train import main, train
from tests.model.toys import toy_config, toy_dataset, toy_recipe, toy_spec, write_class

pytestmark = pytest.mark.training

SETTINGS: dict[str, Any] = {"epochs": 5, "distil_weight": 0.5, "mixup": 0.5, "cutmix": 0.5, "accumulate": 2}
STEPS_PER_EPOCH = 3


class _KilledError(Exception):
    """Stands for the end of a process."""


class _Seen:
    """A teacher that knows what the toy pictures are about, and counts how often it is asked."""

    def __init__(self, *, rounded: bool = False) -> None:
        self.times, self._rounded = 0, rounded

    def __call__(self, pixels: Tensor) -> Tensor:
        self.times += 1
        logits = pixels.float().mean((2, 3)).reshape(-1, 2, 4).mean(2).flip(1) / 16
        return logits.half() if self._rounded else logits


def _train(
    out: Path, recipe: Recipe, seen: _Seen, lessons: Path | None = None, callbacks: TrainCallbacks | None = None
) -> None:
    dataset = toy_dataset()
    stored = None
    if lessons is not None:
        stored = StoredLogits(lessons, key_of(recipe, "halves", dataset.fingerprint), len(dataset.train), 2)
    train(
        dataset,
        toy_config(),
        recipe,
        toy_spec(),
        out,
        teacher=Teacher(seen, "halves"),
        lessons=stored,
        device=torch.device("cpu"),
        callbacks=callbacks,
        save_every_s=0,
    )


def _weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / checkpoint_folder.WEIGHTS)


def _expect_equal(one: Path, other: Path) -> None:
    ours, theirs = _weights(one), _weights(other)
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]


def _kill_at(step: int) -> TrainCallbacks:
    def on_step(now: int, _total: int) -> None:
        if now == step:
            raise _KilledError

    return TrainCallbacks(on_step=on_step)


@pytest.mark.parametrize("changes", [{}, {"sam_rho": 0.05, "accumulate": 1}], ids=["parts", "sam"])
def test_a_run_is_as_if_the_teacher_saw_every_batch_up_to_rounding(tmp_path: Path, changes: dict[str, Any]) -> None:
    recipe = toy_recipe(**{**SETTINGS, "views": 2, **changes})
    stored, every_time = _Seen(), _Seen(rounded=True)
    _train(tmp_path / "stored", recipe, stored, tmp_path / "stored")
    _train(tmp_path / "every-time", recipe, every_time)
    _expect_equal(tmp_path / "stored", tmp_path / "every-time")
    assert stored.times == 2 * STEPS_PER_EPOCH * recipe.accumulate
    assert every_time.times == 5 * STEPS_PER_EPOCH * recipe.accumulate


@pytest.mark.parametrize("undistorted", [False, True])
def test_a_teacher_sees_distorted_pictures_unless_told_otherwise(tmp_path: Path, *, undistorted: bool) -> None:
    shown: list[Tensor] = []

    def teacher(pixels: Tensor) -> Tensor:
        shown.append(pixels)
        return torch.zeros(len(pixels), 2)

    still = toy_recipe(flip=0.0, pad_crop=0.0, erase=0.0, epochs=1, distort=1.0, teacher_undistorted=undistorted)
    train(
        toy_dataset(), toy_config(), still, toy_spec(), tmp_path, teacher=Teacher(teacher), device=torch.device("cpu")
    )
    originals = {pixels.tobytes() for pixels in toy_dataset().train.pixels}
    assert ({pixels.numpy().tobytes() for pixels in torch.cat(shown)} == originals) == undistorted


def test_views_that_no_epoch_repeats_are_an_endless_run(tmp_path: Path) -> None:
    _train(tmp_path / "viewed", toy_recipe(**SETTINGS, views=5), _Seen(), tmp_path / "viewed")
    _train(tmp_path / "endless", toy_recipe(**SETTINGS), _Seen(rounded=True))
    _expect_equal(tmp_path / "viewed", tmp_path / "endless")


def test_views_that_repeat_are_another_run(tmp_path: Path) -> None:
    for views in (0, 2):
        _train(tmp_path / str(views), toy_recipe(**SETTINGS, views=views), _Seen())
    assert not torch.equal(_weights(tmp_path / "0")["head.weight"], _weights(tmp_path / "2")["head.weight"])


def test_a_second_run_learns_from_what_the_first_kept_and_asks_nobody(tmp_path: Path) -> None:
    recipe, lessons = toy_recipe(**SETTINGS, views=2), tmp_path / "lessons"
    _train(tmp_path / "first", recipe, _Seen(), lessons)
    kept = (lessons / LESSONS).read_bytes()
    second = _Seen()
    _train(tmp_path / "second", recipe, second, lessons)
    _expect_equal(tmp_path / "first", tmp_path / "second")
    assert second.times == 0
    assert (lessons / LESSONS).read_bytes() == kept
    assert len(kept) == 2 * 40 * 2 * 2
    assert not (tmp_path / "first" / LESSONS).exists()


def test_a_run_killed_at_every_step_ends_in_the_same_weights(tmp_path: Path) -> None:
    recipe, killed, whole = toy_recipe(**{**SETTINGS, "epochs": 3}, views=2), tmp_path / "killed", tmp_path / "whole"
    for step in range(1, 3 * STEPS_PER_EPOCH + 1):
        with pytest.raises(_KilledError):
            _train(killed, recipe, _Seen(), killed, _kill_at(step))
    _train(killed, recipe, _Seen(), killed)
    _train(whole, recipe, _Seen(), whole)
    _expect_equal(killed, whole)
    assert (killed / LESSONS).read_bytes() == (whole / LESSONS).read_bytes()


# --- from the command line ---

TINY = (
    *("--image-size", "8", "--patch-size", "4", "--channels", "1", "--hidden-dim", "8", "--num-blocks", "1"),
    *("--tokens-mlp-dim", "4", "--channels-mlp-dim", "8", "--epochs", "1", "--val-fraction", "0.4"),
)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    write_class(tmp_path / "data" / "dark", 5, 20)
    write_class(tmp_path / "data" / "light", 5, 200)
    _command(tmp_path, "teacher")
    return tmp_path


def _command(folders: Path, out: str, *flags: object) -> None:
    main([str(folders / "data"), "--out", str(folders / out), *TINY, *map(str, flags)])


def _taught(folders: Path, out: str, *flags: object) -> None:
    _command(folders, out, "--teacher", folders / "teacher", "--views", 2, "--batch-size", 4, *flags)


def _error(capsys: pytest.CaptureFixture[str], folders: Path, *flags: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        _taught(folders, "wrong", *flags)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_the_command_keeps_lessons_beside_the_run_and_goes_on_with_them(folders: Path) -> None:
    _taught(folders, "run", "--epochs", 2)
    assert (folders / "run" / LESSONS).stat().st_size == 2 * 6 * 2 * 2
    _taught(folders, "run", "--epochs", 3)
    assert len((folders / "run" / METRICS).read_text().splitlines()) == 3


def test_a_teacher_of_whom_all_is_there_is_not_loaded(folders: Path) -> None:
    _taught(folders, "first", "--epochs", 2, "--lessons", folders / "lessons")
    (folders / "teacher" / "config.json").write_text("no longer readable")
    tune = ("--recipe", "small", "--init", folders / "first", "--epochs", 1)
    _taught(folders, "second", *tune, "--lessons", folders / "lessons")
    assert (folders / "second" / checkpoint_folder.WEIGHTS).exists()


def test_lessons_of_other_settings_are_known_before_a_run_begins(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _taught(folders, "first", "--lessons", folders / "lessons")
    message = _error(capsys, folders, "--lessons", folders / "lessons", "--seed", 1, "--mixup", 0.5)
    assert "holds lessons on other data, with mixup 0.0 (now 0.5), with seed 0 (now 1). To learn" in message
    assert not (folders / "wrong").exists()


def test_a_run_that_goes_on_with_other_settings_tells_so_itself_and_keeps_its_lessons(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _taught(folders, "wrong")
    kept = (folders / "wrong" / LESSONS_KEY).read_bytes()
    assert "holds a run with views 2 (now 3). To go on with it" in _error(capsys, folders, "--views", 3)
    assert (folders / "wrong" / LESSONS_KEY).read_bytes() == kept


@pytest.mark.parametrize("teacher", ["missing", "data"])
def test_a_teacher_that_cannot_be_read_is_named(
    folders: Path, capsys: pytest.CaptureFixture[str], teacher: str
) -> None:
    message = _error(capsys, folders, "--teacher", folders / teacher)
    assert f"the teacher {folders / teacher} cannot be read: " in message
    assert message.endswith("; expected a checkpoint folder or an ONNX file.")
