"""The fixtures of the service, for the commands that need one, and the command line in this process."""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.system.signals import STOPPING
from app.telemetry import logs
from cli import main
from tests.app.color_bundle import BLUE, GREEN, RED, image
from tests.app.conftest import bundle, engine, grey_bundle, no_options_from_outside, serve

__all__ = ["bundle", "engine", "grey_bundle", "no_options_from_outside", "serve"]


@pytest.fixture
def mixer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Runs `mixer ARGUMENTS` in this process and gives its exit code. Stop signals are handled as before, then."""
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    monkeypatch.setattr(main.app, "registered_commands", list(main.app.registered_commands))
    monkeypatch.setattr(logs, "configure", lambda *_: None)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["mixer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        code = ended.value.code
        assert isinstance(code, int)
        return code

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder: b/blue.jpg, green.png, red.gif, a text file and a hidden picture."""
    folder = tmp_path / "pictures"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "blue.jpg").write_bytes(image(BLUE, kind="JPEG"))
    (folder / "green.png").write_bytes(image(GREEN))
    (folder / "red.gif").write_bytes(image(RED, kind="GIF"))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"no picture")
    return folder
