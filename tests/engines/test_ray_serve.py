"""Replicas of Ray Serve answer as the service does, and an overload stays the service's own 429."""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.app.color_bundle import GREEN, RED, image
from tests.app.servers import PATIENCE_S, ROOT, Server, free_port
from tests.engines.conftest import ENGINES, environment

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(900)]

ROOM = 4  # pictures in a replica at once


@pytest.fixture(scope="module")
def ray_serve(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[str]:
    """The address of two replicas of serve.yaml."""
    with cluster(MIXER_BUNDLE=str(bundle), MIXER_QUEUE_CAPACITY=str(ROOM), MIXER_MAX_IMAGES_PER_REQUEST="4") as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def cluster(**settings: str) -> Iterator[int]:
    port = free_port()
    command = [str(ENGINES), "-m", "tests.engines.serve_cluster", str(port)]
    command += [f"{name}={value}" for name, value in settings.items()]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith("{")), "{}")
            assert json.loads(line) == {"serving": str(port)}
            yield port
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(PATIENCE_S)


def test_the_config_is_rays_and_leaves_refusals_to_the_service() -> None:
    script = """
import json, sys
from ray.serve.schema import ServeDeploySchema
from tests.engines.serve_cluster import CONFIG
import yaml
print(ServeDeploySchema.model_validate(yaml.safe_load(CONFIG.read_text())).model_dump_json())
"""
    told = subprocess.run(
        [ENGINES, "-c", script], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    config = json.loads(told.stdout)
    (application,) = config["applications"]
    (deployment,) = application["deployments"]
    variables = application["runtime_env"]["env_vars"]
    assert deployment["max_ongoing_requests"] > int(variables["MIXER_QUEUE_CAPACITY"])
    assert deployment["backpressure_config"] == {"status_code": 429, "retry_after_s": 5}
    assert deployment["graceful_shutdown_timeout_s"] > float(variables["MIXER_DRAIN_TIMEOUT_S"])
    assert config["http_options"]["request_timeout_s"] > float(variables["MIXER_REQUEST_TIMEOUT_S"])


def test_answers_are_those_of_the_service(ray_serve: str, bundle: Path) -> None:
    bodies = [image(RED), image(GREEN, kind="JPEG"), image(RED, size=(99, 99))[:60], b"no picture", b""]
    port = free_port()
    command = ("-m", "cli", "serve", "--port", str(port), "--bundle", str(bundle), "--workers", "1")
    with Server(*command, port=port) as server:
        server.wait_until_serving()
        own = [httpx.post(f"http://127.0.0.1:{server.port}/classify?top_k=2", content=body) for body in bodies]
    for one, body in zip(own, bodies, strict=True):
        for _ in range(3):  # of either replica
            answer = httpx.post(f"{ray_serve}/classify?top_k=2", content=body, timeout=PATIENCE_S)
            assert (answer.status_code, without_ids(answer)) == (one.status_code, without_ids(one))


def without_ids(answer: httpx.Response) -> dict[str, object]:
    return {name: value for name, value in answer.json().items() if name not in ("request_id", "instance")}


def test_an_overload_is_answered_by_the_service_with_a_time_to_come_again(ray_serve: str) -> None:
    body = image(RED, size=(2000, 2000))
    with (
        httpx.Client(timeout=PATIENCE_S, limits=httpx.Limits(max_connections=64)) as client,
        ThreadPoolExecutor(64) as pool,
    ):
        answers = list(pool.map(lambda _: client.post(f"{ray_serve}/classify", content=body), range(256)))
    assert {answer.status_code for answer in answers} == {200, 429}
    for refusal in (answer for answer in answers if answer.status_code == 429):
        assert refusal.headers["content-type"] == "application/problem+json"
        assert refusal.json()["code"] == "queue_full"
        assert 1 <= int(refusal.headers["retry-after"]) <= 60


def test_each_replica_is_ready_and_has_metrics_of_its_own(ray_serve: str) -> None:
    assert httpx.get(f"{ray_serve}/health/ready", timeout=PATIENCE_S).status_code == 200
    assert "mixer_requests_total" in httpx.get(f"{ray_serve}/metrics", timeout=PATIENCE_S).text
