"""Names that wrappers write, and what is said of those that do not fit."""

from pathlib import Path

import pytest

from model.errors import CheckpointError
from model.weights.tensor_names import differences, unwrapped

PATH = Path("file")


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "_orig_mod.module.", "net.encoder."])
def test_the_prefix_is_what_stands_before_the_stem(prefix: str) -> None:
    assert unwrapped(PATH, {f"{prefix}stem.weight": 1, f"{prefix}head.bias": 2}, "stem.weight") == {
        "stem.weight": 1,
        "head.bias": 2,
    }


def test_a_compiled_part_of_a_network_loses_its_prefix_too() -> None:
    names = {"model.stem.weight": 1, "model.blocks.0._orig_mod.norm1.bias": 2}
    assert unwrapped(PATH, names, "stem.weight") == {"stem.weight": 1, "blocks.0.norm1.bias": 2}


def test_what_lies_beside_a_wrapped_network_is_left_out() -> None:
    assert unwrapped(PATH, {"n_averaged": 0, "module.stem.weight": 1}, "stem.weight") == {"stem.weight": 1}


def test_what_lies_beside_a_network_without_prefix_is_kept() -> None:
    assert unwrapped(PATH, {"extra": 0, "stem.weight": 1}, "stem.weight") == {"extra": 0, "stem.weight": 1}


def test_two_networks_in_a_file_are_named() -> None:
    names = {"student.stem.weight": 1, "teacher.stem.weight": 2}
    with pytest.raises(CheckpointError) as caught:
        unwrapped(PATH, names, "stem.weight")
    assert str(caught.value) == "file holds 2 networks, at 'student.', 'teacher.'; expected the tensors of one."


def test_names_without_the_stem_stay_as_they_are() -> None:
    assert unwrapped(PATH, {"module.conv1.weight": 1}, "stem.weight") == {"module.conv1.weight": 1}


def test_what_is_missing_is_told_with_the_nearest_of_what_is_there() -> None:
    extra = ["conv1.weight", "stem.projection.weight", *(f"layer{index}.weight" for index in range(1000))]
    told = differences({"stem.proj.weight", "stem.proj.bias"}, extra, "timm")
    assert told == (
        "lacks the tensor 'stem.proj.bias' of the timm layout, and 1 more; of 1002 that the layout has not, "
        "'stem.projection.weight' is the nearest."
    )


@pytest.mark.parametrize("count", [1, 3, 4, 5000])
def test_however_many_tensors_there_are_the_message_is_short(count: int) -> None:
    names = {f"{index:04}" + "x" * 1000 for index in range(count)}
    for told in (differences(names, [], "timm"), differences([], names, "timm"), differences(names, names, "timm")):
        assert len(told) < 400
        assert "0000x" in told
