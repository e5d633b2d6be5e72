"""Triton's perf_analyzer measures this service, as it measures Triton and TorchServe."""

import base64
import json
import os
import re
import struct
import subprocess
from pathlib import Path

import pytest

from tests.app.servers import PATIENCE_S
from tests.clients.conftest import GRPC, Asked, speaks
from tests.clients.pictures import PICTURES

pytestmark = pytest.mark.process

REQUESTS = 60
OVER = ["http", *(["grpc"] if GRPC else [])]


def measured(program: Path, address: str, asked: object, folder: Path, *options: str) -> str:
    """What the program prints; it has to end well."""
    (folder / "asked.json").write_text(json.dumps({"data": asked}))
    command = [str(program), "-m", "clothes", "-u", address, "--input-data", str(folder / "asked.json"), *options]
    command += ["--request-count", str(REQUESTS)]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(program.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Request count: " in done.stdout
    return done.stdout


def as_bytes(picture: bytes) -> dict[str, dict[str, str]]:
    """An element of a BYTES tensor: the program sends base64 as it stands, so the length goes before it."""
    return {"image": {"b64": base64.b64encode(struct.pack("<I", len(picture)) + picture).decode()}}


@speaks("oip")
@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_it_measures_the_open_inference_protocol(
    service: Asked, perf_analyzer: Path, tmp_path: Path, over: str, concurrency: int
):
    address = service.grpc if over == "grpc" else service.http
    asked = [as_bytes(picture) for picture in PICTURES]
    told = measured(perf_analyzer, address, asked, tmp_path, "-i", over, "--concurrency-range", str(concurrency))
    assert counted(told, "Request count") >= REQUESTS
    served = counted(told, "Successful request count")
    assert served >= REQUESTS // 2  # it asks for counts while the first and the last requests are under way
    assert counted(told, "Inference count") == pytest.approx(served, abs=concurrency)
    canaries = 4  # they are runs, too: at most two of each worker in the seconds that this takes
    assert counted(told, "Execution count") <= counted(told, "Inference count") + concurrency + canaries


@speaks("oip")
@pytest.mark.parametrize("over", OVER)
def test_the_parts_of_a_request_that_the_server_tells_add_up(
    service: Asked, perf_analyzer: Path, tmp_path: Path, over: str
):
    address = service.grpc if over == "grpc" else service.http
    asked = [as_bytes(picture) for picture in PICTURES]
    told = measured(perf_analyzer, address, asked, tmp_path, "-i", over, "--concurrency-range", "4")
    line = re.search(r"Avg request latency: (\d+) usec \((.*)\)", told)
    assert line is not None, told
    parts = [int(number) for number in re.findall(r"(\d+) usec", line[2])]
    assert len(parts) == 5  # overhead, queue, compute input, compute infer, compute output
    assert sum(parts) == pytest.approx(int(line[1]), abs=5)  # each is cut to a whole number
    assert sum(parts[1:]) > 0
    assert int(line[1]) <= counted(told, "Avg latency")  # of the client, which waits for all of it
    assert "cache hit/miss latency is non-zero" not in told


@speaks("torchserve")
@pytest.mark.parametrize("concurrency", [1, 16])
def test_it_measures_the_predictions_of_torchserve(
    service: Asked, perf_analyzer: Path, tmp_path: Path, concurrency: int
):
    files = [tmp_path / f"{index}.png" for index in range(len(PICTURES))]
    for path, picture in zip(files, PICTURES, strict=True):
        path.write_bytes(picture)
    asked = [{"TORCHSERVE_INPUT": [str(path)]} for path in files]
    how = ["-i", "http", "--service-kind", "torchserve", "--concurrency-range", str(concurrency)]
    assert counted(measured(perf_analyzer, service.http, asked, tmp_path, *how), "Request count") >= REQUESTS


def counted(told: str, what: str) -> int:
    number = re.search(rf"{what}: (\d+)", told)
    assert number is not None, told
    return int(number[1])
