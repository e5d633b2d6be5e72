"""What a client may ask for, and what it is told otherwise."""

from typing import Any

import pytest

from app.errors import BadParameter
from app.explanation.wanted import Wanted, wanted_of
from tests.app.color_bundle import color_spec

SPEC = color_spec(canary=None)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, Wanted(None, "occlusion", "mean")),
        ({"target": "green"}, Wanted(1, "occlusion", "mean")),
        ({"target": "2", "method": "rise", "baseline": "blur"}, Wanted(2, "rise", "blur")),
        ({"target": None, "method": None, "baseline": None}, Wanted(None, "occlusion", "mean")),
    ],
)
def test_a_target_is_a_label_or_its_index(asked: Any, wanted: Wanted) -> None:
    assert wanted_of(SPEC, asked) == wanted


def test_a_label_that_looks_like_an_index_is_the_label() -> None:
    digits = color_spec(canary=None, labels=("2", "1", "0"))
    assert wanted_of(digits, {"target": "2"}).target == 0


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            {"target": "gren"},
            "target is 'gren'; expected a label of the model, such as 'green', or an index from 0 to 2.",
        ),
        ({"target": "3"}, "target is '3'; expected a label of the model, or an index from 0 to 2."),
        ({"target": ""}, "target is ''; expected a label of the model, or an index from 0 to 2."),
        ({"target": "-1"}, "target is '-1'; expected a label of the model, or an index from 0 to 2."),
        ({"target": "9" * 5000}, f"target is '{'9' * 64}'; expected a label of the model, or an index from 0 to 2."),
        ({"method": "lime"}, "method is 'lime'; expected occlusion or rise."),
        ({"baseline": "black"}, "baseline is 'black'; expected mean or border or blur."),
    ],
)
def test_anything_else_is_named(asked: Any, told: str) -> None:
    with pytest.raises(BadParameter) as error:
        wanted_of(SPEC, asked)
    assert error.value.detail == told
