"""The image as a platform runs it that makes users up: any user id, a read-only root, no capabilities."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.app.servers import until
from tests.test_compose import IMAGE, build_image, find_docker

NAME = "mixer-serve-any-user-test"
USER = "1000650000:0"  # as OpenShift makes them up: in group 0, and in no list of users
LOCKED = ["--read-only", "--tmpfs", "/tmp:rw,noexec,nosuid,size=1g", "--cap-drop", "ALL"]  # noqa: S108

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Container:
    docker: str
    url: str

    def says(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.docker, *arguments], check=True, capture_output=True, text=True, timeout=120
        )  # fmt: skip
        return done.stdout.strip()

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    clients = find_docker()
    if not clients:
        pytest.skip("no container engine answers here: no other user was tried")
    docker = build_image(clients)
    subprocess.run([docker, "rm", "--force", NAME], check=False, capture_output=True)
    run = [docker, "run", "--detach", "--name", NAME, "--user", USER, *LOCKED]
    run += ["--security-opt", "no-new-privileges", "--env", "MIXER_PORT=8000", "--publish", "127.0.0.1::8000"]
    subprocess.run([*run, "mixer-serve:cpu", "serve"], check=True, capture_output=True)
    try:
        (port, *_) = subprocess.run(
            [docker, "port", NAME, "8000"], check=True, capture_output=True, text=True
        ).stdout.split()
        yield Container(docker, f"http://{port}")
    finally:
        subprocess.run([docker, "rm", "--force", NAME], check=False, capture_output=True)


def test_it_becomes_ready_and_classifies(container: Container):
    until(container.is_ready)
    answer = httpx.post(f"{container.url}/classify", content=IMAGE.read_bytes(), headers={"content-type": "image/jpeg"})
    assert answer.json()["predictions"][0]["label"] == "pants"


def test_it_is_that_user_and_may_write_to_tmp_alone(container: Container):
    identity = container.says("exec", NAME, "id")
    assert "uid=1000650000 gid=0(root)" in identity
    attempts = "for folder in / /srv /var/cache/mixer /tmp; do touch $folder/x 2>/dev/null && echo $folder; done; :"
    assert container.says("exec", NAME, "sh", "-c", attempts) == "/tmp"  # noqa: S108


def test_its_health_check_works(container: Container):
    until(container.is_ready)
    assert container.says("exec", NAME, "mixer", "health") == "ready"


def test_without_a_volume_its_group_may_write_to_the_cache(container: Container):
    command = "touch /var/cache/mixer/x && echo written"
    run = ["run", "--rm", "--user", USER, "--entrypoint", "sh", "mixer-serve:cpu", "-c", command]
    assert container.says(*run) == "written"


def test_it_ends_with_0(container: Container):
    container.says("stop", "--time", "20", NAME)
    assert container.says("inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", NAME) == "0 false"
