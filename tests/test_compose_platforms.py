"""The image as platforms run it, against a real container engine; skipped, and said so, where there is none."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.test_compose import IMAGE, build_image, find_docker, free_port
from tests.test_compose_secrets import wait_until_healthy

SETTINGS = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--stop-timeout=30")

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def docker() -> str:
    clients = find_docker()
    if not clients:
        pytest.skip("no container engine answers here: the image was not tested")
    return build_image(clients)


@contextmanager
def running(docker: str, port: int, *arguments: str, **variables: str) -> Iterator[tuple[str, str]]:
    """A container that has turned healthy, and where its `port` answers."""
    published = free_port()
    given = [f"--env={name}={value}" for name, value in variables.items()]
    command = [docker, "run", "--detach", f"--publish=127.0.0.1:{published}:{port}", *SETTINGS, *given]
    container = call(*command, "mixer-serve:cpu", *arguments)
    try:
        wait_until_healthy(docker, container)
        yield container, f"http://127.0.0.1:{published}"
    finally:
        call(docker, "rm", "--force", container)


def call(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout.strip()


def test_sagemaker_runs_serve_and_asks_at_8080(docker: str):
    with running(docker, 8080, "serve") as (container, url):
        assert httpx.get(f"{url}/ping").json() == {"status": "Healthy"}
        headers = {"Content-Type": "image/jpeg", "Accept": "text/csv"}
        answer = httpx.post(f"{url}/invocations", content=IMAGE.read_bytes(), headers=headers)
        assert answer.text.startswith("pants,0.")
        call(docker, "stop", container)
        (state,) = json.loads(call(docker, "inspect", container))
        assert state["State"]["ExitCode"] == 0


def test_vertex_ai_names_the_port_and_the_paths(docker: str):
    variables = {"AIP_HTTP_PORT": "8765", "AIP_HEALTH_ROUTE": "/isalive", "AIP_PREDICT_ROUTE": "/predict"}
    with running(docker, 8765, **variables) as (_, url):
        assert httpx.get(f"{url}/isalive").status_code == 200
        assert httpx.post(f"{url}/predict", json={"instances": []}).status_code == 422
