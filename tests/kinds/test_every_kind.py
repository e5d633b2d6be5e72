"""A picture of every kind is seen as a careful viewer shows it, or refused by the name of its kind.

The expectations are stated beside the files; libvips and OpenCV were asked for each, and where they show
something else, docs/picture.md says why.
"""

import itertools

import numpy as np
import pytest

from app.decoding.decoder import DecodeLimits, decode
from app.errors import UnsupportedFormat
from tests.kinds.every_bmp import every_bmp
from tests.kinds.every_other import every_other
from tests.kinds.every_png import every_png
from tests.kinds.every_tiff import every_tiff
from tests.kinds.kind import Kind

LIMITS = DecodeLimits(max_bytes=1 << 20, max_pixels=1 << 20)
KINDS = [*every_png(), *every_tiff(), *every_bmp(), *every_other()]
SEEN = [kind for kind in KINDS if not isinstance(kind.seen, str)]
REFUSED = [kind for kind in KINDS if isinstance(kind.seen, str)]


def name(kind: Kind) -> str:
    return kind.name


@pytest.mark.parametrize("kind", SEEN, ids=name)
def test_a_picture_is_seen_as_a_careful_viewer_shows_it(kind: Kind) -> None:
    pixels = decode(kind.payload, 3, 8, LIMITS)
    middle, edge = pixels.shape[0] // 2, 2  # lossy ones smear at the borders of quadrants
    halves = (slice(edge, middle - edge), slice(middle + edge, -edge))
    for (rows, columns), color in zip(itertools.product(halves, halves), kind.seen, strict=True):
        difference = np.abs(pixels[rows, columns].astype(int) - color).max()
        assert difference <= kind.tolerance, (pixels[rows, columns][0, 0], color)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # as Pillow says of a big-endian BigTIFF
@pytest.mark.parametrize("kind", REFUSED, ids=name)
def test_what_would_be_shown_wrongly_is_refused_by_its_kind(kind: Kind) -> None:
    with pytest.raises(UnsupportedFormat, match=f"^{kind.seen}"):
        decode(kind.payload, 3, 8, LIMITS)


def test_kinds_have_different_names() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
