import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.evaluation.journal import BOARD, METRICS, Journal
from model.network.run_folder import RESUME
from model.training.run_config import TrainCallbacks
from model.training.train import train
from tests.model.toys import toy_config, toy_dataset, toy_recipe, toy_spec

pytestmark = pytest.mark.training

RECIPE = toy_recipe(epochs=2, batch_size=1)  # 40 steps an epoch: a note at 25, 50 and 75


class _KilledError(Exception):
    """Stands for the end of a process."""


def _events(out: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: the steps and values of every curve."""
    board = EventAccumulator(str(out / BOARD))
    board.Reload()
    return {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def _grown_old(out: Path) -> None:
    """Event files are read in the order of their names, which begin with the second they were made in."""
    for path in (out / BOARD).iterdir():
        _, _, _, made, rest = path.name.split(".", maxsplit=4)
        path.rename(path.with_name(f"events.out.tfevents.{int(made) - 60:010}.{rest}"))


def _train(out: Path, killed_at: int | None = None) -> None:
    def on_step(now: int, _total: int) -> None:
        if now == killed_at:
            raise _KilledError

    train(
        toy_dataset(),
        toy_config(),
        RECIPE,
        toy_spec(),
        out,
        device=torch.device("cpu"),
        callbacks=TrainCallbacks(on_step=on_step),
        save_every_s=1e9,
    )


def _expected(out: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves of metrics.jsonl."""
    rows = [json.loads(line) for line in (out / METRICS).read_text(encoding="utf-8").splitlines()]
    return {f"epoch/{name}": [(40 * row["epoch"], row[name]) for row in rows] for name in rows[0]}


def _expect_the_curves_of_the_metrics(out: Path) -> None:
    events = _events(out)
    for name, points in _expected(out).items():
        assert [step for step, _ in events[name]] == [step for step, _ in points]
        assert [value for _, value in events[name]] == pytest.approx([value for _, value in points], rel=1e-6)
    assert [step for step, _ in events["train_loss"]] == [25, 50, 75]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    _train(out)
    return out


def test_tensorboard_shows_the_metrics_of_every_epoch_at_its_last_step(whole: Path) -> None:
    _expect_the_curves_of_the_metrics(whole)


def test_between_them_it_shows_the_mean_loss_and_the_rate_now_and_then(whole: Path) -> None:
    events = _events(whole)
    assert set(events) == {*_expected(whole), "train_loss", "learning_rate"}
    assert [step for step, _ in events["learning_rate"]] == [25, 50, 75]
    first, second = json.loads((whole / METRICS).read_text().splitlines()[0])["train_loss"], events["train_loss"][2][1]
    assert 0 < second < events["train_loss"][0][1] * 1.5
    assert events["train_loss"][0][1] == pytest.approx(first, rel=0.5)


@pytest.mark.parametrize("killed_at", [30, 78])
def test_a_run_that_was_killed_shows_every_step_once_all_the_same(tmp_path: Path, whole: Path, killed_at: int) -> None:
    with pytest.raises(_KilledError):
        _train(tmp_path, killed_at)
    assert torch.load(tmp_path / RESUME, weights_only=True)["step"] == killed_at // 40 * 40
    _grown_old(tmp_path)
    _train(tmp_path)
    _expect_the_curves_of_the_metrics(tmp_path)
    assert _events(tmp_path)["train_loss"] == _events(whole)["train_loss"]


def test_looking_at_a_finished_run_once_more_strikes_nothing_out(tmp_path: Path) -> None:
    _train(tmp_path)
    _grown_old(tmp_path)
    _train(tmp_path)
    _expect_the_curves_of_the_metrics(tmp_path)


def test_what_a_killed_process_wrote_after_the_save_is_struck_out_and_what_it_wrote_up_to_it_stays(
    tmp_path: Path,
) -> None:
    killed = Journal(tmp_path, 0)
    for step in (5, 10, 15):
        killed.note_step(step, loss=step, learning_rate=0.1)
    killed.note_epoch(10, {"val_top1": 0.5})
    killed.close()
    _grown_old(tmp_path)
    resumed = Journal(tmp_path, 10)
    resumed.note_step(15, loss=3, learning_rate=0.1)
    resumed.close()
    assert _events(tmp_path)["train_loss"] == [(5, 5.0), (10, 10.0), (15, 3.0)]
    assert _events(tmp_path)["epoch/val_top1"] == [(10, 0.5)]


def test_a_journal_that_is_not_active_writes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0, active=False)
    journal.note_step(1, loss=1.0, learning_rate=0.1)
    journal.note_epoch(1, {"val_top1": 0.5})
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_metrics_are_one_line_of_json_an_epoch_and_nothing_is_left_of_older_ones(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"epoch": 1, "val_top1": 0.25}, {"epoch": 2, "val_top1": 1 / 3}]
    Journal.write_rows(tmp_path, [*rows, {"epoch": 3}])
    Journal.write_rows(tmp_path, rows)
    assert (
        tmp_path / METRICS
    ).read_text() == f'{{"epoch": 1, "val_top1": 0.25}}\n{{"epoch": 2, "val_top1": {1 / 3}}}\n'
    assert [path.name for path in tmp_path.iterdir()] == [METRICS]
