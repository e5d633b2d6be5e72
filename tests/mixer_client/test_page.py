"""The programs in docs/client.md run as they stand there, and the page has what the package has."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mixer_client
from tests.app.servers import PATIENCE_S, ROOT, Server
from tests.faults.wire import served

PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
EXPECTED = [
    r"pants 99\.\d%\n",
    r"pants skirt\n",
    r"\('dress',.*\) False [\d.]+ ms in the service\nalike: 0\.\d\d\n\['clothes'\]\n",
    r"dress 9\d\.\d%, 65 runs\n([+-]\d\.\d\d( [+-]\d\.\d\d){7}\n){8}",
    r"README\.md 400 bad_picture: .*\nat_work\.py .*\n(.*\n)*pants\.jpg pants\n(.*\n)*t-shirt\.jpg T-shirt\n",
    r"The file starts with .* and is no picture; expected .*\.\n",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The default bundle, as whoever reads the page has it."""
    with served(ROOT / "bundles" / "clothes") as running:
        running.connect().close()
        yield running


def run(program: str, port: int, folder: Path) -> str:
    assert ADDRESS in program
    (folder / "program.py").write_text(program.replace(ADDRESS, f"http://127.0.0.1:{port}"), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    ended = subprocess.run(
        [sys.executable, str(folder / "program.py")],
        cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.process
@pytest.mark.parametrize(("program", "printed"), list(zip(PROGRAMS, EXPECTED, strict=True)), ids=range(len(EXPECTED)))
def test_a_program_prints_what_it_should(program: str, printed: str, server: Server, tmp_path: Path) -> None:
    found = run(program, server.port, tmp_path)
    assert re.fullmatch(printed, found), found


def test_the_page_names_every_error() -> None:
    kinds = [getattr(mixer_client, name) for name in mixer_client.__all__]
    errors = [kind.__name__ for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)]
    section = PAGE.split("## Errors")[1].split("\n## ")[0]
    assert [name for name in errors if f"`{name}`" not in section] == []


def test_the_page_names_every_method() -> None:
    section = PAGE.split("## What may be asked")[1].split("\n## ")[0]
    methods = [name for name in vars(mixer_client.Client) if not name.startswith("_") and name != "close"]
    assert [name for name in methods if f"| `{name}(" not in section] == []


def test_what_the_page_says_of_retries_is_so() -> None:
    section = PAGE.split("## When it asks again")[1]
    chosen = mixer_client.Retries()
    assert (chosen.budget, chosen.reserve, chosen.max_attempts) == (0.1, 10, 4)
    for words in ("1.1 requests for each image, and ten", "is sent four times at most"):
        assert words in re.sub(r"\s+", " ", section)
