"""What kind of TIFF it is, in words, and where its color profile lies."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.decoding.tiff_kinds import profile_place, unsupported

sys.path.append(str(Path(__file__).parents[1] / "kinds"))
from tests.kinds.every_tiff import RGB, WHITE_IS_ZERO, tiff


@pytest.mark.parametrize("big", [False, True])
def test_samples_are_named_by_their_number_bits_colors_and_order(big: bool) -> None:
    layout = " BigTIFF" if big else ""
    twelve = tiff(np.zeros((2, 2, 1), int), 12, WHITE_IS_ZERO, rows=2, order=">", big=big, fill_order=2)
    assert unsupported(twelve) == (
        f"1 channel of 12 bits, white for 0, the lowest bit first, compression 1, big-endian{layout} order"
    )
    floats = tiff(np.zeros((2, 2, 4)), 64, RGB, rows=2, planar=True, big=big, tags={338: (1,)})
    assert unsupported(floats) == (
        "4 channels of 64 floating-point bits, RGB, premultiplied alpha, separate planes, compression 1, "
        f"little-endian{layout} order"
    )


def test_what_is_cut_off_or_no_tiff_has_no_kind() -> None:
    whole = tiff(np.zeros((2, 2, 1), int), 12, WHITE_IS_ZERO, rows=2)
    directory = 8 + 2 + 12 * int.from_bytes(whole[8:10], "little")
    assert unsupported(whole[:directory]) is not None
    assert {unsupported(whole[:cut]) for cut in range(directory - 2)} == {None}
    assert unsupported(b"\xff\xd8\xff" + bytes(100)) is None


def test_the_color_profile_is_where_pillow_puts_it() -> None:
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "TIFF", icc_profile=b"a profile, or not")
    place = profile_place(file.getvalue())
    assert place is not None
    assert file.getvalue()[place[0] :][: place[1]] == b"a profile, or not"
    assert profile_place(b"II*\0") is profile_place(b"") is None
