"""Several networks as starts for the same pictures."""

from pathlib import Path

import pytest

from model.errors import MixerError
from model.heads.comparing import compare
from model.network import checkpoint
from model.training.run_config import TrainCallbacks
from tests.model.heads.conftest import write_classes
from tests.model.toys import random_mixer, toy_config, toy_spec

pytestmark = [pytest.mark.training, pytest.mark.timeout(60)]


def test_every_network_gets_a_row_the_best_first_and_doubts_are_told_once(tmp_path: Path, network: Path):
    blind = random_mixer(toy_config())
    blind.stem.weight.data.zero_()
    checkpoint.save(checkpoint.Checkpoint(blind, toy_spec()), tmp_path / "blind")
    data, told = write_classes(tmp_path / "data", 8, "black", "white"), []
    rows = compare(data, [str(tmp_path / "blind"), str(network)], TrainCallbacks(on_findings=told.append)).rows
    assert [Path(row.source).name for row in rows] == ["network", "blind"]
    assert rows[0].top1 == 1.0
    assert rows[1].top1 < 1.0
    assert rows[0].num_pictures == 14
    assert rows[0].images_per_s > 0
    assert len(told) == 1


def test_networks_that_cannot_be_had_are_named_and_end_nothing(tmp_path: Path, network: Path):
    data, told = write_classes(tmp_path / "data", 4, "black", "white"), []
    sources = [str(tmp_path / "missing"), str(network), "timm:resnet50"]
    found = compare(data, sources, TrainCallbacks(on_findings=told.append))
    assert [row.source for row in found.rows] == [str(network)]
    assert [one.source for one in found.failed] == [str(tmp_path / "missing"), "timm:resnet50"]
    assert found.failed[0].reason.startswith(f"{tmp_path}/missing ")
    assert len(told) == 1


def test_pictures_that_cannot_be_learned_from_end_the_comparison(tmp_path: Path, network: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MixerError, match="empty"):
        compare(tmp_path / "empty", [str(network)], TrainCallbacks())
