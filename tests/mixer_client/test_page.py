"""The programs in docs/client.md run as they stand there, and the page has what the package has."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import mixer_client
from tests.app.servers import PATIENCE_S, ROOT, Server
from tests.faults.wire import served
from tests.mixer_client.test_parsing import EXPLAINED

PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
EXPECTED = [
    r"pants 99\.\d%\n",
    r"pants skirt\n",
    r"\('dress',.*\) False [\d.]+ ms in the service\nalike: 0\.\d\d\n\['clothes'\]\n",
    r"\+0\.50 -0\.25\n",
    r"README\.md 400 bad_picture: .*\nat_work\.py .*\n(.*\n)*pants\.jpg pants\n(.*\n)*t-shirt\.jpg T-shirt\n",
    r"The file starts with .* and is no picture; expected .*\.\n",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The default bundle, as whoever reads the page has it."""
    with served(ROOT / "bundles" / "clothes") as running:
        running.connect().close()
        yield running


class _Explains(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        content = json.dumps(EXPLAINED).encode()
        self.send_response(200 if self.path.startswith("/explain?") else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's name
        pass


@contextmanager
def explaining() -> Iterator[int]:
    """The port of a stand-in that explains."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Explains) as stand_in:
        thread = threading.Thread(target=stand_in.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield stand_in.server_port
        stand_in.shutdown()
        thread.join()


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
    if ".explain(" in program:
        with explaining() as port:
            found = run(program, port, tmp_path)
    else:
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
