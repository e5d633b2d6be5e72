"""The stack with keys from files, against a real container engine; skipped, and said so, where there is none."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.http.api_keys import new_key
from tests.test_compose import IMAGE, ROOT, build_image, find_compose, find_docker, free_port

PROJECT = "mixer-serve-secrets-test"
FILES = ("-f", "docker-compose.yml", "-f", "docker-compose.secrets.yml")

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Guarded:
    """The stack with secrets, and the keys that open it."""

    docker: str
    container: str
    url: str
    key: str
    admin_key: str

    def says(self, *arguments: str) -> str:
        done = subprocess.run([self.docker, *arguments], check=True, capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr

    def get(self, path: str, key: str | None = None) -> httpx.Response:
        return httpx.get(self.url + path, headers={} if key is None else {"x-api-key": key})

    def classify(self, key: str | None) -> httpx.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.post(f"{self.url}/classify", content=IMAGE.read_bytes(), headers=headers)


def write_secret(folder: Path, name: str, lines: str) -> str:
    file = folder / name
    file.write_text(lines, encoding="utf-8")
    file.chmod(0o444)
    return str(file)


def wait_until_healthy(docker: str, container: str) -> None:
    """Its HEALTHCHECK needs no key; the engine's own event stream tells when it succeeds."""
    events = subprocess.Popen(
        [docker, "events", "--since", "10m", "--filter", f"container={container}", "--filter", "event=health_status"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert events.stdout is not None
    with events:
        for line in events.stdout:
            if "health_status: healthy" in line:
                events.terminate()
                return
    raise AssertionError("the container never turned healthy")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    clients = find_docker()
    if not clients:
        pytest.skip("no container engine answers here: the stack with secrets was not tested")
    docker = build_image(clients)
    compose = find_compose(docker)
    if compose is None:
        pytest.skip("no docker compose here: the stack with secrets was not tested")
    folder = tmp_path_factory.mktemp("secrets")
    (key, line), (admin_key, admin_line) = new_key("phone"), new_key("me")
    port = free_port()
    environment = {
        **os.environ,
        "MIXER_PUBLISH": f"127.0.0.1:{port}",
        "COMPOSE_PROJECT_NAME": PROJECT,
        "MIXER_API_KEYS_SECRET": write_secret(folder, "api_keys", f"# of the tests\n{line}\n"),
        "MIXER_ADMIN_KEYS_SECRET": write_secret(folder, "admin_keys", admin_line + "\n"),
    }

    def call(*arguments: str) -> str:
        command = [*compose, *FILES, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=120
        )
        return done.stdout.strip()

    call("up", "-d", "--no-build", "mixer")
    try:
        container = call("ps", "-q", "mixer")
        wait_until_healthy(docker, container)
        yield Guarded(docker, container, f"http://127.0.0.1:{port}", key, admin_key)
    finally:
        call("down", "--volumes")


def test_a_picture_needs_a_key_of_the_file(guarded: Guarded) -> None:
    assert guarded.classify(None).status_code == 401
    assert guarded.classify(guarded.admin_key).status_code == 401
    answer = guarded.classify(guarded.key)
    assert answer.json()["predictions"][0]["label"] == "pants"


def test_metrics_and_administration_need_a_key_for_operators(guarded: Guarded) -> None:
    for key in (None, guarded.key):
        assert guarded.get("/metrics", key).status_code == 401
        assert httpx.post(f"{guarded.url}/admin/reload", headers={"x-api-key": key or ""}).status_code == 401
    assert "mixer_requests_total" in guarded.get("/metrics", guarded.admin_key).text


def test_the_keys_are_neither_in_the_container_nor_in_its_log(guarded: Guarded) -> None:
    guarded.classify(guarded.key)
    seen = guarded.says("inspect", guarded.container) + guarded.says("logs", guarded.container)
    seen += guarded.says("exec", guarded.container, "cat", "/run/secrets/api_keys", "/run/secrets/admin_keys")
    assert '"key": "phone"' in seen
    assert guarded.key not in seen
    assert guarded.admin_key not in seen
