"""The command line over many pictures, in this process: one worker."""

from pathlib import Path

import pytest

from cli.bulk.entries import Entry, LocalFile, Ready, RemoteFile, read_local, ready
from cli.bulk.sources import Sources
from tests.app.color_bundle import BLUE, GREEN, RED, image
from tests.cli.conftest import bundle, engine, images, mixer, no_options_from_outside

__all__ = ["bundle", "engine", "images", "mixer", "no_options_from_outside"]

MOST = 100_000
COLORS = {"red": RED, "green": GREEN, "blue": BLUE}


@pytest.fixture(autouse=True)
def one_worker(no_options_from_outside: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXER_WORKERS", "1")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Pictures 000.png to 249.png, red, green and blue in turn."""
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(250):
        (folder / f"{index:03}.png").write_bytes(image(list(COLORS.values())[index % 3]))
    return folder


def color_at(index: int) -> str:
    """The label of a picture of `many`."""
    return list(COLORS)[index % 3]


def sources(*names: object) -> list[Entry]:
    """The entries of sources, in order."""
    return list(Sources(map(str, names), MOST).entries())


def names_of(*names: object) -> list[str]:
    return [entry.name for entry in sources(*names)]


def contents(*names: object) -> list[Ready]:
    """The entries of sources with their bytes, or failures."""
    return [_with_bytes(ready(entry)) for entry in Sources(map(str, names), MOST).entries()]


def _with_bytes(entry: Ready) -> Ready:
    content = entry.content
    assert not isinstance(content, RemoteFile)
    return Ready(entry.name, read_local(content.path, MOST)) if isinstance(content, LocalFile) else entry
