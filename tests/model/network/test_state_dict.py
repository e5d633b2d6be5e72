"""Files of torch.save: tensors are read, and nothing is run."""

import pickle
from pathlib import Path

import pytest
import torch

from model.errors import CheckpointError
from model.network.state_dict import read_torch


def test_objects_in_a_file_are_not_loaded(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match=r"whole\.pt holds Python objects, which are not loaded"):
        read_torch(tmp_path / "whole.pt")


def test_a_pickle_that_would_run_code_runs_none(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"state_dict": Touch()}))
    with pytest.raises(CheckpointError, match="are not loaded"):
        read_torch(tmp_path / "evil.pt")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "holds a list; expected tensors by name"),
        ({"epoch": 3, "best": 0.5}, "holds 'epoch', 'best'; expected tensors, or state_dict, model"),
        ({}, "holds nothing; expected tensors"),
    ],
)
def test_a_file_without_tensors_by_name_is_told_what_it_holds(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=message):
        read_torch(tmp_path / "other.pt")
