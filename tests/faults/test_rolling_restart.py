"""Two instances behind nginx, with the configuration that the project ships: nobody notices a rolling restart."""

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.settings import FORM_BYTES, Settings
from benchmarks.soak import proxy as nginx
from benchmarks.soak.proxy import Proxy
from tests.app.color_bundle import BLUE, GREEN, RED, image
from tests.app.servers import PATIENCE_S, ROOT, Server, clean_environment, free_port
from tests.faults.wire import ask, post, served
from tests.pace import slowness_at_first

pytestmark = pytest.mark.process

needs_nginx = pytest.mark.skipif(
    nginx.found() is None, reason="nginx is not installed here (apt-get install nginx-light): nothing ran behind it"
)


# --- the file ---


def value_of(name: str, text: str) -> str:
    (found,) = re.findall(rf"^ *{name} (\S+);", text, re.MULTILINE)
    return str(found)


def test_its_limits_are_those_of_the_settings() -> None:
    text = nginx.CONFIGURATION.read_text(encoding="utf-8")
    upstream, _, rest = text.partition("\nserver {")
    server, _, classify = rest.partition("location = /classify {")
    default = Settings()
    assert value_of("client_max_body_size", server) == f"{default.max_request_bytes >> 20}m"
    largest = default.max_image_bytes + FORM_BYTES
    assert value_of("client_max_body_size", classify) == f"{largest >> 10}k"
    assert value_of("client_body_timeout", server) == f"{default.body_timeout_s:.0f}s"
    assert int(value_of("proxy_read_timeout", server).removesuffix("s")) > default.request_timeout_s
    assert int(value_of("keepalive_timeout", upstream).removesuffix("s")) < default.keep_alive_timeout_s


def test_every_address_in_it_is_replaced_where_it_is_tried() -> None:
    text = nginx.configuration(Path("a"), 1234, [5678, 5679])
    addresses = re.findall(r"^ *server (\S+) ", text, re.MULTILINE)
    assert addresses == ["127.0.0.1:5678", "127.0.0.1:5679"] * 2
    assert re.findall(r"listen (\S+);", text) == ["127.0.0.1:1234"]


def test_the_names_in_it_are_those_of_the_compose_file() -> None:
    text = nginx.CONFIGURATION.read_text(encoding="utf-8")
    compose = (ROOT / "docker-compose.proxy.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"^ *server (\S+):8000 ", text, re.MULTILINE))
    addresses = dict(re.findall(r"^  (mixer-\d):\n.*?ipv4_address: (\S+)$", compose, re.MULTILINE | re.DOTALL))
    hosts = compose.partition("extra_hosts:")[2].partition("ports:")[0]
    assert named == set(addresses)
    assert dict(re.findall(r'- "(\S+?):(\S+)"$', hosts, re.MULTILINE)) == addresses


# --- nginx with it ---


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    started = Proxy(tmp_path / "nginx")
    yield started
    if hasattr(started, "current"):
        await started.stop()  # killed, it would leave its workers behind


def connection_to(proxy: Proxy, address: str = "127.0.0.1") -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", proxy.current.port, PATIENCE_S, source_address=(address, 0))


@needs_nginx
async def test_what_is_sent_and_by_whom_reaches_the_log_of_the_instance(bundle: Path, proxy: Proxy) -> None:
    with served(bundle, "--workers", "1", "--log-format", "json") as running:
        running.wait_until_serving()
        await proxy.start([running.port, free_port()])
        connection = connection_to(proxy, "127.0.0.2")
        for color, label in ((RED, "red"), (BLUE, "blue"), (GREEN, "green")):
            headers = {"Content-Type": "image/png", "X-Request-ID": f"mine-{label}", "X-Forwarded-For": "10.1.2.3"}
            connection.request("POST", "/classify", image(color), headers)
            answer = connection.getresponse()
            assert answer.getheader("X-Request-ID") == f"mine-{label}"
            assert json.loads(answer.read())["predictions"][0]["label"] == label
        running.wait_for("mine-green")
        lines = [json.loads(line) for line in running.lines if "mine-" in line]
        assert [line["client"] for line in lines] == ["127.0.0.2"] * 3
        connection.close()


@needs_nginx
async def test_what_nginx_refuses_itself_looks_like_the_services_own(proxy: Proxy) -> None:
    await proxy.start([free_port(), free_port()])
    connection = connection_to(proxy)
    for path, length, status, code in (
        ("/classify", Settings().max_image_bytes + FORM_BYTES + 1, 413, "too_many_bytes"),
        ("/classify/batch", Settings().max_request_bytes + 1, 413, "too_many_bytes"),
        ("/classify", 10, 503, "not_ready"),
    ):
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", str(length))
        connection.putheader("X-Request-ID", "mine")
        connection.endheaders(bytes(10))
        answer = connection.getresponse()
        problem = json.loads(answer.read())
        assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
        assert answer.getheader("Content-Type") == "application/problem+json"
        assert answer.getheader("X-Request-ID") == "mine"
        assert answer.getheader("Retry-After") == ("1" if status == 503 else None)
        connection.close()


@needs_nginx
async def test_what_is_for_operators_is_not_passed_on(bundle: Path, proxy: Proxy) -> None:
    with served(bundle, "--workers", "1") as running:
        running.wait_until_serving()
        await proxy.start([running.port, free_port()])
        connection = connection_to(proxy)
        for method, path in (("GET", "/metrics"), ("POST", "/admin/reload"), ("GET", "/%61dmin//reload")):
            connection.request(method, path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 404
        connection.request("GET", "/health/ready")
        assert connection.getresponse().status == 200
        connection.close()
        assert not [line for line in running.lines if re.search("metrics|admin", line)]


@needs_nginx
async def test_an_instance_that_drains_sends_nobody_away(bundle: Path, proxy: Proxy) -> None:
    """Its connections from nginx are open, and one upload keeps it from ending."""
    with served(bundle, "--workers", "1") as first, served(bundle, "--workers", "1") as second:
        for one in (first, second):
            one.wait_until_serving()
        await proxy.start([first.port, second.port])
        _expect_right(proxy, 20)
        with first.connect() as upload:
            upload.sendall(post(image(RED))[:-1])
            _expect_right(proxy, 1)
            first.signal(signal.SIGTERM)
            _expect_right(proxy, 20)
            first.wait_for("Shutting down")
            _expect_right(proxy, 20)
        assert first.exit_code() == 0
        with _started_again(bundle, first) as again:
            second.signal(signal.SIGTERM)  # nginx has not forgotten yet that the first one was away
            assert second.exit_code() == 0
            _expect_right(proxy, 20)
            assert ask(again, post(image(BLUE))).label == "blue"


def _expect_right(proxy: Proxy, count: int) -> None:
    connection = connection_to(proxy)
    for _ in range(count):
        connection.request("POST", "/classify", image(GREEN), {"Content-Type": "image/png"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert json.loads(answer.read())["predictions"][0]["label"] == "green"
    connection.close()


def _started_again(bundle: Path, server: Server) -> Server:
    flags = ["--port", str(server.port), "--bundle", str(bundle), "--workers", "1"]
    again = Server("-m", "cli", "serve", *flags, port=server.port)
    again.wait_until_serving()
    return again


@needs_nginx
@pytest.mark.timeout(600)
def test_nobody_notices_a_rolling_restart_under_load(bundle: Path, tmp_path: Path) -> None:
    """Mixed traffic, every answer checked; scripts/soak does the same for as long as you like."""
    command = [
        sys.executable, "-m", "benchmarks.soak", "--rolling-restarts", "2", "--requests", "2000", "--clients", "16",
        "--bundle", str(bundle), "--out", str(tmp_path), "--cache", str(tmp_path),
        "--set", "MIXER_WORKERS=1", "MIXER_INSTANCES=1",
    ]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=500 * slowness_at_first(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "soak.json").read_text())
    assert content["requests"] >= 2000
    assert content["faults"] == {"rolling restart": 2}
    assert content["verdict"] == []
    assert content["detours"] == {}
    assert sum(content["sent_on"].values()) > 0  # the other instance had to help
