import json
from pathlib import Path

import pytest

from model.errors import TrainingError
from model.network.run_folder import RESUME, better, expect_run_folder


def _judged(folder: Path, top1: float, epoch: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"spec": {"metrics": {"top1": top1, "num_pictures": 8}}, "training": {"history": [{"epoch": epoch}]}}
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(("best", "last", "taken"), [(0.9, 0.8, "best"), (0.8, 0.8, ".")])
def test_the_best_epoch_is_taken_where_it_did_better_than_the_last(
    tmp_path: Path, best: float, last: float, taken: str
) -> None:
    _judged(tmp_path / "best", best, 1)
    _judged(tmp_path, last, 2)
    assert better(tmp_path) == tmp_path / taken
    assert better(tmp_path, "last") == tmp_path


def test_a_checkpoint_without_a_best_one_is_taken_itself(tmp_path: Path) -> None:
    assert better(tmp_path) == tmp_path
    _judged(tmp_path, 0.5, 1)
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "config.json").write_text("{")
    assert better(tmp_path) == tmp_path


def test_a_new_folder_an_empty_one_and_that_of_a_run_will_do(tmp_path: Path) -> None:
    data = tmp_path / "data"
    expect_run_folder(tmp_path / "new" / "run", data)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden").touch()
    expect_run_folder(tmp_path / "empty", data)
    (tmp_path / "run").mkdir()
    for name in (RESUME, "notes.txt"):
        (tmp_path / "run" / name).touch()
    expect_run_folder(tmp_path / "run", data)


def test_a_folder_of_other_things_is_refused_with_some_of_their_names(tmp_path: Path) -> None:
    for index in range(7):
        (tmp_path / "out" / f"{index}.txt").parent.mkdir(exist_ok=True)
        (tmp_path / "out" / f"{index}.txt").touch()
    with pytest.raises(TrainingError, match=r"out holds 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more; expected a new"):
        expect_run_folder(tmp_path / "out", tmp_path / "data")


def test_a_checkpoint_that_no_run_goes_on_with_is_refused(tmp_path: Path) -> None:
    _judged(tmp_path / "out", 0.5, 1)
    with pytest.raises(TrainingError, match=r"out already holds a checkpoint; expected a new folder or a killed run's"):
        expect_run_folder(tmp_path / "out", tmp_path / "data")


@pytest.mark.parametrize("out", ["data", "data/run", "data/../data/x"])
def test_a_folder_among_the_pictures_is_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(TrainingError, match=r"is within DATA, .*; expected a folder outside of the pictures"):
        expect_run_folder(tmp_path / out, tmp_path / "data")


@pytest.mark.parametrize("out", ["file", "file/run"])
def test_a_file_in_the_way_is_named(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=f"{out} cannot be written: .*/file is a file; expected a folder"):
        expect_run_folder(tmp_path / out, tmp_path / "data")
