"""One service for all of these tests, and clients of other services that ask it."""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from app.dialects.names import NAMES
from tests.app.color_bundle import color_spec, write_bundle
from tests.app.servers import ROOT, Server, free_port
from tests.clients.pictures import LABELS

CLIENTS = ROOT / ".venv-clients"
PYTHON = CLIENTS / "bin" / "python"
GRPC = "oip" in NAMES and (ROOT / "app" / "rpc").is_dir()
MISSING = "scripts/install-clients brings it"


class RaisedError(Exception):
    """What a client raised: the name of its class, and its text."""


class Judge:
    """A client in a process of its own. Calls are those of its module in tests/clients/judges."""

    def __init__(self, client: str) -> None:
        command = [str(PYTHON), "-W", "ignore", "-m", "tests.clients.judges", client]
        self._process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def __call__(self, function: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"function": function, "arguments": arguments}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, "the client's process has ended"
        outcome = json.loads(line)
        if "raised" in outcome:
            raise RaisedError(f"{outcome['raised']}: {outcome['text']}")
        return outcome["answer"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


class Asked:
    """The addresses of the service: `http` and `grpc` as host:port, and `bundle`, the folder that it serves."""

    def __init__(self, http: str, grpc: str, bundle: Path) -> None:
        self.http, self.grpc, self.bundle = http, grpc, bundle


def encoded(pictures: list[bytes]) -> list[str]:
    """Pictures as a judge takes them."""
    return [base64.b64encode(picture).decode() for picture in pictures]


def speaks(dialect: str) -> pytest.MarkDecorator:
    """The tests of one dialect."""
    return pytest.mark.skipif(dialect not in NAMES, reason=f"the service speaks no {dialect}")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """`mixer serve` with the toy bundle as the model "clothes", version 1."""
    bundle = write_bundle(
        tmp_path_factory.mktemp("bundles") / "clothes", color_spec(name="clothes", version="1", labels=LABELS)
    )
    port, grpc_port = free_port(), free_port()
    flags = ["--port", str(port), "--bundle", str(bundle), "--instances", "1"]
    if GRPC:
        flags += ["--grpc-port", str(grpc_port)]
    with Server("-m", "cli", "serve", *flags, port=port) as server:
        server.wait_until_serving()
        yield Asked(f"127.0.0.1:{port}", f"127.0.0.1:{grpc_port}", bundle)


@pytest.fixture(scope="session")
def judges() -> Iterator[Callable[[str], Judge]]:
    """The client of a module, started at the first call."""
    if not PYTHON.exists():
        pytest.skip(MISSING)
    started: dict[str, Judge] = {}
    with ExitStack() as running:

        def client(name: str) -> Judge:
            if name not in started:
                started[name] = running.enter_context(Judge(name))
            return started[name]

        yield client


@pytest.fixture(scope="session")
def node() -> tuple[str, Path]:
    """Node and the folder of its packages."""
    program = shutil.which("node")
    if program is None or not (CLIENTS / "node_modules").is_dir():
        pytest.skip(MISSING)
    return program, CLIENTS


@pytest.fixture(scope="session")
def perf_analyzer() -> Path:
    """Triton's load generator."""
    program = CLIENTS / "perf" / "perf_analyzer"
    if not program.exists() or not list(program.parent.glob("libb64.so.*")):
        pytest.skip(MISSING)
    return program
