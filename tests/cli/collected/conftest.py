"""A folder of kept pictures, as a service leaves it."""

from pathlib import Path

import pytest

from app.collection.folder import Folder, FolderLimits
from tests.app.collection.test_folder import DAY_S, NOON, record
from tests.app.color_bundle import BLUE, RED, image

LIMITS = FolderLimits(100, 1 << 20, 0)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Three pictures that were taken for red: one of them is blue, one is red as somebody said, one is older."""
    path = tmp_path / "kept"
    for request_id, color, now in (("a", BLUE, NOON), ("b", RED, NOON), ("old", RED, NOON - 3 * DAY_S)):
        folder = Folder(path, LIMITS, clock=lambda now=now: now)  # type: ignore[misc]
        folder.make()
        folder.keep(record(folder, request_id), image(color))
    folder.correct("a", 0, "blue")
    folder.correct("b", 0, "red")
    return path
