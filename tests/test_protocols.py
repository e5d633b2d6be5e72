"""The commands in docs/protocols.md run as they stand there, and the page has every protocol."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.dialects.names import NAMES
from tests.app.servers import PATIENCE_S, Server
from tests.faults.wire import served

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
SECTIONS = dict(re.findall(r"^## [^\n]*\(`(\w+)`\)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = {
    name: command
    for name, section in SECTIONS.items()
    for command in re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
}
NO_CURL = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The default bundle, as whoever reads the page has it."""
    with served(ROOT / "bundles" / "clothes") as server:
        server.connect().close()
        yield server


def test_every_protocol_has_a_section_with_a_command() -> None:
    assert set(SECTIONS) == set(NAMES)
    assert set(COMMANDS) == set(NAMES) - {"vertex"}  # whose paths are whatever it chooses


@pytest.mark.process
@NO_CURL
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_gets_the_answer_of_its_protocol(command: str, server: Server) -> None:
    assert ADDRESS in command
    here = command.replace(ADDRESS, f"http://127.0.0.1:{server.port}")
    ended = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", here], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    if "embeddings" in command:
        assert len(answer["data"][0]["embedding"]) > 100
    else:
        assert "pants" in ended.stdout
