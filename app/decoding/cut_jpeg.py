"""Whether a JPEG that lacks its end marker has all its pixels: decoded with different endings, it looks the same.

The decoder makes up what is missing, from whatever comes behind; what a file has does not depend on it. That tells a
cut in the last piece between two markers. Whether there are fewer pieces than there should be is told from the markers.
"""

import io
import re
from math import ceil
from typing import NamedTuple

from PIL import Image, ImageChops

from app.decoding import jpeg
from app.decoding.jpeg import Scans
from app.errors import BadImage

_MAX_PIXEL_PASSES = 64_000_000  # scans x pixels, and three more for making them; all that is done nine times

END = b"\xff\xd9"
# Unlike each other, and the zeros that the decoder makes up; one in four looks like the first by chance.
_ENDINGS = tuple(bytes(at * step % 255 for at in range(1, 65)) + END for step in (7, 29, 53, 101, 139, 211))
_SEQUENTIAL, _PROGRESSIVE = (b"\xc0", b"\xc1"), b"\xc2"  # frames of Huffman codes
_SCAN, _RESTART_INTERVAL = b"\xda", b"\xdd"
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_COEFFICIENTS = 64


class _Frame(NamedTuple):
    """Height and width in pixels, and how often each channel is sampled across and down, by its number."""

    height: int
    width: int
    sampling: dict[int, tuple[int, int]]


def lacks_only_its_end(payload: bytes) -> bool:
    """Whether a JPEG with no end marker is otherwise whole. Decodes it seven times.

    Raises: OSError, ValueError, SyntaxError (Pillow's own).
    """
    cut = payload.rstrip(b"\xff")
    if not _has_all_pieces(cut):
        return False
    first = _loaded(cut + END)
    return all(ImageChops.difference(first, _loaded(cut + ending)).getbbox() is None for ending in _ENDINGS)


def is_soon_told(pixels: int, scans: Scans) -> bool:
    """Whether that takes little enough time of a JPEG of so many pixels: of a baseline one 16 million."""
    return pixels * (3 + scans.number * scans.weight) <= _MAX_PIXEL_PASSES


def with_end(payload: bytes) -> bytes:
    """The same JPEG with its end marker."""
    return payload.rstrip(b"\xff") + END


def _loaded(payload: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(payload), formats=("JPEG",))
    image.load()
    return image


def _has_all_pieces(payload: bytes) -> bool:
    """Whether there are all the scans, and in the last one all the restart markers, that a whole file would have."""
    frame, is_progressive, interval, scan_end, last = None, False, 0, 0, []
    bits_missing: dict[tuple[int, int], int] = {}
    try:
        for marker, segment, end_of_segment in jpeg.whole_segments(payload):
            if marker in _SEQUENTIAL or marker == _PROGRESSIVE:
                frame, is_progressive = _frame(segment), marker == _PROGRESSIVE
                bits_missing = {(channel, at): 1 for channel in frame.sampling for at in range(_COEFFICIENTS)}
            elif marker == _RESTART_INTERVAL:
                interval = int.from_bytes(segment[2:4])
            elif marker == _SCAN:
                scan_end = end_of_segment
                last = [segment[at] for at in range(3, 3 + 2 * segment[2], 2)]
                first, end, low = segment[-3], segment[-2], segment[-1] & 15
                span = range(first, end + 1) if is_progressive else range(_COEFFICIENTS)
                bits_missing |= {(channel, at): low if is_progressive else 0 for channel in last for at in span}
    except (IndexError, BadImage):
        return False
    if frame is None or not last or any(bits_missing.values()) or not set(last) <= set(frame.sampling):
        return False
    return not interval or len(_RESTART.findall(payload, scan_end)) == ceil(_units(frame, last) / interval) - 1


def _frame(segment: bytes) -> _Frame:
    """Raises IndexError where it is cut off."""
    sampling = {segment[at]: (segment[at + 1] >> 4, segment[at + 1] & 15) for at in range(8, 8 + 3 * segment[7], 3)}
    return _Frame(int.from_bytes(segment[3:5]), int.from_bytes(segment[5:7]), sampling)


def _units(frame: _Frame, channels: list[int]) -> int:
    """How many units of one or more blocks a scan of those channels has."""
    across, down = (max(1, *(sampling[axis] for sampling in frame.sampling.values()), 1) for axis in (0, 1))
    if len(channels) > 1:
        return ceil(frame.width / (8 * across)) * ceil(frame.height / (8 * down))
    own_across, own_down = frame.sampling[channels[0]] if len(frame.sampling) > 1 else (across, down)
    return ceil(ceil(frame.width * own_across / across) / 8) * ceil(ceil(frame.height * own_down / down) / 8)
