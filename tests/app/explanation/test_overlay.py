"""Values over a picture."""

import io

import numpy as np
import pytest
from PIL import Image

from app.explanation.explainer import Region
from app.explanation.overlay import LONGEST_SIDE, overlay_png

GREY = np.full((30, 60, 3), 128, dtype=np.uint8)


def laid_over(
    values: list[list[float]], region: Region, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = GREY
):
    png = overlay_png(pixels, np.array(values), region)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_what_the_label_rests_on_is_orange_and_what_speaks_against_it_blue() -> None:
    shown = laid_over([[1.0, -1.0], [0.0, 0.0]], Region(0, 0, 60, 30, 60, 30))
    assert shown.shape == (384, 768, 3)
    red, _, blue = shown[40, 100]
    assert red > blue + 150
    red, _, blue = shown[40, 660]
    assert blue > red + 150
    assert (shown[-1, 300] == 128).all()


def test_only_the_region_is_colored() -> None:
    shown = laid_over([[1.0]], Region(15, 0, 45, 30, 600 // 10, 30))
    assert (shown[:, 0] == 128).all()
    assert (shown[:, -1] == 128).all()
    assert shown[200, 384][0] > 200


def test_a_region_may_reach_beyond_the_picture() -> None:
    shown = laid_over([[1.0, 1.0], [1.0, 1.0]], Region(0, -15, 60, 45, 60, 30))
    assert (shown[:, :, 0] > 200).all()


def test_values_that_are_all_nothing_leave_the_picture() -> None:
    assert (laid_over([[0.0]], Region(0, 0, 60, 30, 60, 30)) == 128).all()


@pytest.mark.parametrize(("width", "height"), [(1, 4000), (4000, 1), (1, 1), (3000, 2000)])
def test_pictures_of_any_shape_become_small_ones(width: int, height: int) -> None:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    side = max(width, height)
    region = Region((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2, width, height)
    shown = laid_over([[1.0, 0.0], [0.0, 1.0]], region, pixels)
    assert max(shown.shape) <= LONGEST_SIDE


def test_the_picture_may_be_a_fraction_of_the_upload() -> None:
    whole = laid_over([[1.0, 0.0]], Region(150, 0, 450, 300, 600, 300))
    assert (whole[:, :190] == 128).all()
    assert whole[200, 250][0] > 200


@pytest.mark.parametrize("turned", [30, -30])
def test_the_map_of_a_thing_that_is_turned_is_laid_over_the_thing(turned: int) -> None:
    upright = np.zeros((120, 160), np.uint8)
    upright[30:90, 60:80] = 255  # on the left of the middle
    picture = np.asarray(Image.fromarray(upright).rotate(turned))
    region = Region(60, 30, 80, 90, 160, 120, turned)
    shown = laid_over([[1.0, 1.0], [1.0, 1.0]], region, np.repeat(picture[:, :, None], 3, axis=2))
    is_colored = shown[:, :, 0] > shown[:, :, 2] + 60
    is_thing = np.asarray(Image.fromarray(picture).resize((768, 576))) > 128
    assert (is_colored & is_thing).sum() > 0.9 * (is_colored | is_thing).sum()
