"""Which of the known names was meant. Knows none of them."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if any is."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None)
