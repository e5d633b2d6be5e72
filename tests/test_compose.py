"""The image and the stack, against a real container engine; skipped, and said so, where there is none."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parent.parent
IMAGE = ROOT / "examples" / "pants.jpg"
PROJECT = "mixer-serve-test"
BASE_IMAGE = "python:3.11-slim-bookworm"
MAX_ADDED_BYTES = 310_000_000

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


def works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    except OSError:
        return False


def find_docker() -> list[str]:
    """Every client on the PATH that reaches an engine: of several, perhaps only one can build."""
    folders = os.environ["PATH"].split(os.pathsep)
    candidates = dict.fromkeys(path for folder in folders if (path := shutil.which("docker", path=folder)))
    return [docker for docker in candidates if works(docker, "version", "--format", "{{.Server.Version}}")]


def build_image(clients: list[str]) -> str:
    """Build mixer-serve:cpu with the first client that can. Returns that client."""
    failures = []
    for docker in clients:
        command = [docker, "build", "--network=host", "--tag", "mixer-serve:cpu", str(ROOT)]
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=800)
        if built.returncode == 0:
            return docker
        failures.append(f"{docker}: {built.stderr[-2000:]}")
    raise AssertionError("the image was not built:\n" + "\n".join(failures))


def find_compose(docker: str) -> list[str] | None:
    candidates = ([docker, "compose"], ["docker-compose"])
    return next((command for command in candidates if works(*command, "version")), None)


@dataclass(frozen=True)
class Stack:
    docker: str
    compose: list[str]
    container: str
    url: str
    environment: dict[str, str]

    def run(self, *arguments: str) -> str:
        return subprocess.run(
            [self.docker, *arguments], check=True, capture_output=True, text=True, timeout=120
        ).stdout.strip()

    def inspect(self) -> dict[str, object]:
        (state,) = json.loads(self.run("inspect", self.container))
        return dict(state)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    clients = find_docker()
    if not clients:
        pytest.skip("no container engine answers here: the image and the stack were not tested")
    docker = build_image(clients)
    compose = find_compose(docker)
    if compose is None:
        pytest.skip("no docker compose here: the image and the stack were not tested")
    port = free_port()
    environment = {**os.environ, "MIXER_PUBLISH": f"127.0.0.1:{port}", "COMPOSE_PROJECT_NAME": PROJECT}

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [*compose, *arguments], cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=120
        )
        return done.stdout.strip()

    call("up", "-d", "--no-build")
    try:
        yield Stack(docker, compose, call("ps", "-q", "mixer"), f"http://127.0.0.1:{port}", environment)
    finally:
        call("down", "--volumes")


@pytest.fixture(scope="module")
def healthy(stack: Stack) -> Stack:
    """The stack once its HEALTHCHECK says so: the engine's own event stream tells when."""
    events = subprocess.Popen(
        [stack.docker, "events", "--since", "10m", "--filter", f"container={stack.container}",
         "--filter", "event=health_status", "--format", "{{json .}}"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert events.stdout is not None
    with events:
        for line in events.stdout:
            if "health_status: healthy" in line:
                events.terminate()
                return stack
    raise AssertionError("the container never turned healthy")


def test_the_stack_turns_healthy_and_classifies(healthy: Stack):
    with IMAGE.open("rb") as image:
        answer = httpx.post(f"{healthy.url}/classify", files={"file": image})
    assert answer.json()["predictions"][0]["label"] == "pants"
    assert httpx.get(f"{healthy.url}/health/ready").json()["status"] == "ready"


def test_it_runs_as_an_ordinary_user_without_capabilities_on_a_read_only_root(healthy: Stack):
    status = healthy.run("exec", healthy.container, "cat", "/proc/1/status")
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert values["Uid"].split() == ["10001"] * 4
    assert int(values["CapEff"], 16) == int(values["CapBnd"], 16) == 0
    assert values["NoNewPrivs"] == "1"
    assert healthy.inspect()["HostConfig"]["ReadonlyRootfs"] is True  # type: ignore[index]


def test_memory_and_restart_policy_are_set(healthy: Stack):
    config = healthy.inspect()["HostConfig"]
    assert config["Memory"] == 2 << 30  # type: ignore[index]
    assert config["RestartPolicy"]["Name"] == "unless-stopped"  # type: ignore[index]


def test_there_is_no_torch_and_no_compiler_inside(healthy: Stack):
    code = (
        "import importlib.util as u, shutil; modules, compilers = ('torch', 'onnxscript', 'pip'), ('gcc', 'cc');"
        "print([m for m in modules if u.find_spec(m)], [c for c in compilers if shutil.which(c)])"
    )
    assert healthy.run("exec", healthy.container, "python", "-c", code) == "[] []"


def test_the_image_adds_less_than_310_mb(healthy: Stack):
    size, base_size = (
        int(healthy.run("image", "inspect", "--format", "{{.Size}}", name)) for name in ("mixer-serve:cpu", BASE_IMAGE)
    )
    assert size - base_size < MAX_ADDED_BYTES


def test_the_gpu_service_is_valid_and_only_starts_when_its_profile_is_named(stack: Stack):
    resolved = subprocess.run(
        [*stack.compose, "--profile", "gpu", "config"],
        cwd=ROOT, env=stack.environment, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "driver: nvidia" in resolved
    started = stack.run("ps", "--all", "--filter", f"label=com.docker.compose.project={PROJECT}", "--quiet")
    assert len(started.split()) == 1


def test_it_stops_within_its_drain_time_with_exit_code_0(healthy: Stack):
    healthy.run("stop", "--time", "20", healthy.container)
    state = healthy.inspect()["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)  # type: ignore[index]
