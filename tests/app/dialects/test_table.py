"""The table of dialects: every name has one, and what several have is there once."""

from typing import Any

from app.dialects.names import NAMES
from app.dialects.serving import Serving
from app.dialects.table import DIALECTS, chosen

NOTHING: Any = None
SERVING = Serving(NOTHING, NOTHING, NOTHING, "1")


def test_every_name_is_one_of_the_table() -> None:
    assert tuple(DIALECTS) == NAMES


def test_what_several_dialects_have_is_there_once() -> None:
    parts = [part for name in NAMES for part in DIALECTS[name]]
    assert len(parts) > len(set(parts)) == len(chosen(NAMES, SERVING))
    assert chosen((), SERVING) == []
