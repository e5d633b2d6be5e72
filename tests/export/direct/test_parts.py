"""Hidden layers whose rows would collide in a cache fall into even parts, and no others do."""

import pytest

from export.direct.parts import part_width
from model.weights.config import VARIANTS


@pytest.mark.parametrize(("variant", "expected"), [("S/16", 512), ("B/16", 768), ("L/16", 512), ("H/14", 640)])
def test_the_papers_hidden_layers_fall_into_even_parts(variant: str, expected: int):
    assert part_width(VARIANTS[variant].channels_mlp_dim) == expected


@pytest.mark.parametrize("mlp_dim", [1, 24, 512, 1023, 1040, 1536, 2000])
def test_rows_that_do_not_collide_stay_whole(mlp_dim: int):
    assert part_width(mlp_dim) == mlp_dim


def test_every_part_is_as_wide_as_the_others_and_fills_the_vector_units():
    for mlp_dim in range(1024, 64 * 1024, 1024):
        width = part_width(mlp_dim)
        assert 512 <= width <= 768
        assert (mlp_dim % width, width % 16) == (0, 0)
