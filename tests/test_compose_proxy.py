"""Two containers behind nginx, against a real container engine; skipped, and said so, where there is none."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.test_compose import IMAGE, ROOT, build_image, find_compose, find_docker, free_port, works
from tests.test_compose_secrets import wait_until_healthy

PROJECT = "mixer-serve-proxy-test"
FILES = ("-f", "docker-compose.proxy.yml")
INSTANCES = ("mixer-1", "mixer-2")
NGINX = "nginxinc/nginx-unprivileged:stable"
CLIENTS = 4

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Pair:
    """Both instances and the proxy. `call` runs docker compose."""

    docker: str
    url: str
    call: Callable[..., str]

    def container(self, service: str) -> str:
        return self.call("ps", "-q", service)


def nginx_image(docker: str) -> str:
    """The one that is named, or one made here."""
    if works(docker, "image", "inspect", NGINX):
        return NGINX
    folder = Path(__file__).parent / "nginx"
    command = [docker, "build", "--network=host", "--tag", "mixer-serve-nginx-test", str(folder)]
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    if built.returncode:
        pytest.skip(f"no image of nginx can be had here: {built.stderr[-300:]}")
    return "mixer-serve-nginx-test"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    clients = find_docker()
    if not clients:
        pytest.skip("no container engine answers here: two instances behind nginx were not tested")
    docker = build_image(clients)
    compose = find_compose(docker)
    if compose is None:
        pytest.skip("no docker compose here: two instances behind nginx were not tested")
    port = free_port()
    environment = {
        **os.environ,
        "MIXER_PUBLISH": f"127.0.0.1:{port}",
        "COMPOSE_PROJECT_NAME": PROJECT,
        "NGINX_IMAGE": nginx_image(docker),
    }

    def call(*arguments: str) -> str:
        command = [*compose, *FILES, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    try:
        call("up", "-d", "--no-build")
        started = Pair(docker, f"http://127.0.0.1:{port}", call)
        for instance in INSTANCES:
            wait_until_healthy(docker, started.container(instance))
        yield started
    finally:
        call("down", "--volumes")


def test_both_answer_behind_the_proxy(pair: Pair) -> None:
    labels = set()
    for _ in range(4):
        with IMAGE.open("rb") as image:  # by connections of their own: nginx goes to either instance
            answer = httpx.post(f"{pair.url}/classify", files={"file": image})
        labels.add(answer.json()["predictions"][0]["label"])
    assert labels == {"pants"}
    for instance in INSTANCES:
        logged = subprocess.run(
            [pair.docker, "logs", pair.container(instance)], check=True, capture_output=True, text=True, timeout=60
        )
        assert "/classify" in logged.stdout + logged.stderr


def test_nobody_notices_that_one_after_the_other_is_replaced(pair: Pair) -> None:
    before = [pair.container(instance) for instance in INSTANCES]
    image, over = IMAGE.read_bytes(), threading.Event()
    answered: list[str] = []

    def ask() -> None:
        with httpx.Client(base_url=pair.url, timeout=60) as client:
            while not over.is_set():
                try:
                    answer = client.post("/classify", content=image, headers={"content-type": "image/png"})
                    answered.append(answer.json()["predictions"][0]["label"] if answer.is_success else answer.text)
                except httpx.HTTPError as error:
                    answered.append(repr(error))

    asking = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in asking:
        thread.start()
    try:
        for instance in INSTANCES:
            pair.call("up", "-d", "--no-build", "--no-deps", "--force-recreate", instance)
            wait_until_healthy(pair.docker, pair.container(instance))
    finally:
        over.set()
        for thread in asking:
            thread.join()
    assert set(answered) == {"pants"}
    assert len(answered) > 10 * CLIENTS
    after = [pair.container(instance) for instance in INSTANCES]
    assert not set(before) & set(after)
