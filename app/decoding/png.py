"""What a PNG unfolds besides its pixels. Decodes nothing."""

from app.errors import BadImage

_SIGNATURE = b"\x89PNG"
_UNFOLDING = (b"iCCP", b"zTXt", b"iTXt")  # a colour profile, and notes: Pillow unfolds a megabyte of each
_MAX_UNFOLDING = 64
_SMALLEST_BYTES = 1000  # of what unfolds to a megabyte


def expect_few_unfolding(payload: bytes) -> None:
    """Raises BadImage where a PNG has more compressed notes and profiles than can be unfolded soon.

    Their names are looked for wherever they stand: that takes no time and misses none, and pixels hardly ever hold one.
    """
    if len(payload) <= _MAX_UNFOLDING * _SMALLEST_BYTES or not payload.startswith(_SIGNATURE):
        return
    found = sum(payload.count(name) for name in _UNFOLDING)
    if found > _MAX_UNFOLDING:
        raise BadImage(f"The PNG has {found} compressed profiles and notes; expected at most {_MAX_UNFOLDING}.")
