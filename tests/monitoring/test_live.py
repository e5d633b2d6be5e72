"""Debian's Prometheus scrapes a loaded service of two workers: each expression of dashboard and alerts finds something.

What one machine without a GPU cannot show is told by a second target, whose page has a number for each metric.
"""

import io
import json
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.app.servers import PATIENCE_S, Server, free_port, head_of_upload, until
from tests.monitoring.everything import Everything
from tests.monitoring.shipped import (
    PROMETHEUS,
    ROOT,
    RULE_FILES,
    dashboard_expressions,
    filled_in,
    operands,
    rule_expressions,
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.heavy,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not here: apt has it"),
]
KEY, OPERATORS_KEY = "a-key-of-a-client-1234", "a-key-of-an-operator-1234"
ELSEWHERE = re.compile(r"mixer_gpu_|mixer_shadow_|accelerator|ALERTS")  # what only the second target has


@dataclass(frozen=True)
class Watched:
    """A service, and the Prometheus that scrapes it."""

    service: httpx.Client
    prometheus: httpx.Client

    def ask(self, path: str, **parameters: str) -> Any:
        answer = self.prometheus.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def finds(self, expression: str) -> bool:
        """Whether the expression has a series, whose value is a number."""
        found = self.ask("query", query=expression)["result"]
        return any(one["value"][1] != "NaN" for one in found)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    with ExitStack() as stack:
        port = stack.enter_context(_service(folder / "kept"))
        everything = stack.enter_context(closing(Everything()))
        exporter = stack.enter_context(_exporter(everything))
        prometheus = stack.enter_context(_prometheus(folder, port, exporter))
        # Without TLS nothing has to be verified, and reading all certificates would take longer than all requests.
        yield Watched(
            *(
                stack.enter_context(
                    httpx.Client(base_url=f"http://127.0.0.1:{one}", timeout=PATIENCE_S, verify=False)  # noqa: S501
                )
                for one in (port, prometheus)
            )
        )


@contextmanager
def _service(kept: Path) -> Iterator[int]:
    """Both shipped models, two workers, one key, and room for so few pictures that some are refused."""
    port = free_port()
    options = {
        "port": port,
        "bundle": ROOT / "bundles",
        "workers": 2,
        "instances": 1,
        "queue-capacity": 4,
        "max-images-per-request": 4,
        "collect-dir": kept,
        "collect-share": 1,
        "canary-interval-s": 1,
        "api-keys": f"shop:{KEY}",
        "admin-keys": OPERATORS_KEY,
    }
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with Server("-m", "cli", "serve", *flags, port=port) as server:
        server.wait_until_serving(workers=2)
        yield port


@contextmanager
def _exporter(everything: Everything) -> Iterator[int]:
    """Answers each scrape with a new page."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(everything.page())

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 -- likewise
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server.server_port
        server.shutdown()
        serving.join()


@contextmanager
def _prometheus(folder: Path, service: int, exporter: int) -> Iterator[int]:
    """The shipped configuration with other targets, and two seconds where it has 15."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = dict.fromkeys(config["global"], "2s")
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    jobs["mixer"]["static_configs"] = [{"targets": [f"127.0.0.1:{service}"]}]
    del jobs["mixer-gpu"]["dns_sd_configs"]
    jobs["mixer-gpu"]["static_configs"] = [{"targets": [f"127.0.0.1:{exporter}"]}]
    config["scrape_configs"] = [jobs["mixer"], jobs["mixer-gpu"]]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for name in RULE_FILES:
        shutil.copy(PROMETHEUS / name, folder)
    port = free_port()
    options = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", "--log.level=warn")
    process = subprocess.Popen(["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"])
    try:
        until(lambda: _is_ready(port))
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=PATIENCE_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def load(service: httpx.Client, pictures: int, clients: int) -> set[int]:
    """What clients do, the wrong things too. Returns the statuses."""
    drawing, photograph = _file("fashion-mnist/ankle-boot.png"), _file("pants.jpg")
    strange = _strange()

    def ask(number: int) -> httpx.Response:
        content = strange if number % 4 == 0 else drawing
        model = "clothes" if number % 16 < 2 else "fashion-mnist"
        return post(f"/classify?model={model}", content)

    def post(path: str, content: bytes, **headers: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "image/png", **headers}
        return service.post(path, content=content, headers=headers)

    def tell(answer: httpx.Response, label: str) -> int:
        body = json.dumps({"request_id": answer.headers["X-Request-ID"], "label": label}).encode()
        return post("/feedback", body, **{"Content-Type": "application/json"}).status_code

    with ThreadPoolExecutor(clients) as together:
        answers = list(together.map(ask, range(pictures)))
    statuses = {answer.status_code for answer in answers}
    first = next(answer for answer in answers if answer.status_code == 200)
    statuses |= {
        post("/classify", b"no picture").status_code,
        post("/classify", drawing, Authorization="").status_code,
        post("/classify", photograph, **{"X-Request-Timeout-Ms": "1"}).status_code,
        post("/explain?method=rise&model=fashion-mnist", drawing).status_code,
        post("/nowhere", b"").status_code,
        service.post("/admin/reload", headers={"X-API-Key": OPERATORS_KEY}).status_code,
        tell(first, first.json()["predictions"][0]["label"]),
    }
    _hang_up(service)
    return statuses


def _file(name: str) -> bytes:
    return (ROOT / "examples" / name).read_bytes()


def _strange() -> bytes:
    """No model has ever seen anything like it."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def _hang_up(service: httpx.Client) -> None:
    """In the middle of a body."""
    with socket.create_connection(("127.0.0.1", service.base_url.port), timeout=PATIENCE_S) as connection:
        head = head_of_upload(100).replace(b"\r\n\r\n", f"\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 100")


def test_each_expression_finds_something(watched: Watched) -> None:
    assert {200, 400, 401, 404} <= load(watched.service, 300, clients=2)
    assert 429 in load(watched.service, 60, clients=12)
    missing = dict(_expected())

    def all_found() -> bool:
        for expression, job in list(missing.items()):
            if watched.finds(filled_in(expression, job=job)):
                del missing[expression]
        if missing:
            load(watched.service, 20, clients=12)  # a rate needs something that grows while Prometheus looks
        return not missing

    try:
        until(all_found)
    except AssertionError:
        raise AssertionError("\n".join(["these find nothing:", *missing])) from None


def _expected() -> Iterator[tuple[str, str]]:
    """Expressions, and the job that has to have something for them: the service's own, wherever that can be."""
    for expression in dashboard_expressions():
        if not expression.where.startswith("mark"):
            yield expression.text, ("mixer.*" if ELSEWHERE.search(expression.text) else "mixer")
    marks = (one.text for one in dashboard_expressions() if one.where.startswith("mark"))
    for text in (*marks, *(one.text for one in rule_expressions())):
        for operand in operands(text):
            yield operand, "mixer.*"
