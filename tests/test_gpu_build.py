"""The GPU build of ONNX Runtime on a machine without a GPU: it lists CUDA, runs on the CPU, and is not believed.

The build is installed once into a folder of the environment, and found before the CPU build by the processes here.
"""

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.engine.providers import Gpu, Providers, cuda, tensorrt
from tests.pace import is_within, slowness_at_first

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 60 * slowness_at_first()
REFUSAL_S = 10

pytestmark = [
    pytest.mark.process,
    pytest.mark.heavy,
    pytest.mark.timeout(600),  # the first run may have to download a quarter of a gigabyte
    pytest.mark.skipif(
        platform.system() != "Linux" or platform.machine() != "x86_64", reason="the GPU build is for Linux on x86-64"
    ),
    pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="this machine has an NVIDIA driver"),
]


@pytest.fixture(scope="session")
def gpu_build() -> Path:
    """A folder with the pinned onnxruntime-gpu and nothing else."""
    (version,) = re.findall(r"^onnxruntime-gpu==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    folder = Path(sys.prefix) / f"gpu-build-{version}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(prefix="gpu-build-", dir=sys.prefix) as staging:
            _install(f"onnxruntime-gpu=={version}", Path(staging) / "build")
            shutil.move(Path(staging) / "build", folder)
    return folder


def _install(requirement: str, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    finished = subprocess.run(
        [*pip, "--target", folder, requirement], capture_output=True, text=True, check=False, timeout=500
    )
    if finished.returncode and re.search(r"Retrying|onnection|resolution|timed out", finished.stderr):
        pytest.skip(f"{requirement} cannot be downloaded: there is no network")
    assert finished.returncode == 0, finished.stderr


def environment(gpu_build: Path, **variables: str) -> dict[str, str]:
    """This process's, with the GPU build in front and no options of the service but `variables`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIXER_")}
    return {**inherited, "PYTHONPATH": str(gpu_build), "ORT_DISABLE_TELEMETRY": "1", **variables}


def python(gpu_build: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment(gpu_build, **variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def test_it_lists_cuda_and_a_session_that_asks_for_it_runs_on_the_cpu_all_the_same(gpu_build: Path) -> None:
    script = """
import json, sys, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
onnxruntime.set_default_logger_severity(4)
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CUDAExecutionProvider"])
print(json.dumps([onnxruntime.__file__, onnxruntime.get_available_providers(), session.get_providers()]))
"""
    finished = python(gpu_build, "-c", script, str(ROOT / "bundles" / "fashion-mnist" / "fp32.onnx"))
    assert finished.stderr == ""
    file, available, running = json.loads(finished.stdout)
    assert Path(file).is_relative_to(gpu_build)
    assert {"CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"} <= set(available)
    assert running == ["CPUExecutionProvider"]


def test_importing_it_prints_nothing(gpu_build: Path) -> None:
    finished = python(gpu_build, "-W", "error", "-c", "import onnxruntime")
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("provider", "lacking"),
    [
        ("cuda", ["CUDAExecutionProvider", "libcublas.so.13", "an NVIDIA driver", "scripts/install gpu"]),
        ("tensorrt", ["TensorrtExecutionProvider", "libnvinfer.so.10", "an NVIDIA driver", "TensorRT 10"]),
    ],
)
def test_asked_for_a_gpu_the_service_ends_at_once_with_one_line_that_says_what_to_do(
    provider: str, lacking: list[str], gpu_build: Path
) -> None:
    began = time.monotonic()
    finished = python(gpu_build, "-m", "cli", "serve", MIXER_PROVIDER=provider, MIXER_PORT=str(free_port()))
    assert is_within(time.monotonic() - began, REFUSAL_S, time.perf_counter)
    assert (finished.returncode, finished.stdout) == (3, "")
    assert len(finished.stderr.splitlines()) == 1
    assert finished.stderr.startswith(f"mixer: provider is {provider}: ")
    assert [
        word for word in [*lacking, "did not load", "Missing: ", "set MIXER_PROVIDER="] if word not in finished.stderr
    ] == []


def test_left_to_itself_the_service_runs_on_the_cpu_and_says_so_everywhere(gpu_build: Path) -> None:
    with served(gpu_build) as (address, lines):
        (warning,) = [line for line in lines if " WARNING " in line]
        fallback = warning.split("falling back to the CPU: ")[1].strip()
        assert fallback.startswith("provider is cuda: CUDAExecutionProvider did not load. Missing: ")
        assert " on cpu, " in next(line for line in lines if "serving clothes" in line)
        model, ready = (json.loads(get(address + path)) for path in ("/model", "/health/ready"))
        assert (model["provider"], model["fallback"]) == ("cpu", fallback)
        assert (ready["status"], ready["provider"], ready["fallback"]) == ("ready", "cpu", fallback)
        info = re.findall(r"^mixer_engine_info\{(.*)\} 1\.0$", get(address + "/metrics"), re.MULTILINE)
        assert len(info) == 1
        assert 'provider="cpu"' in info[0]


def test_the_calls_of_a_gpu_instance_are_those_of_this_build(gpu_build: Path) -> None:
    """Its version may differ from the CPU build's: the instance's own tests again, on this build's device "cpu"."""
    tests = [
        "-m",
        "pytest",
        "tests/app/engine/test_cuda_graphs.py",
        "-k",
        "onnx_runtime",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    finished = python(gpu_build, *tests)
    assert finished.returncode == 0, finished.stdout
    assert " passed" in finished.stdout


def test_device_memory_is_asked_for_in_its_own_terms(gpu_build: Path) -> None:
    script = """
import numpy, onnxruntime
from app.engine.gpu_buffers import OrtMemory
onnxruntime.set_default_logger_severity(4)
OrtMemory("cuda", 0).device((2, 4, 48), numpy.uint8)
"""
    finished = python(gpu_build, "-c", script)
    assert "CUDA Provider not available" in finished.stderr  # the arguments were understood


@pytest.mark.parametrize(
    ("library", "providers"),
    [
        ("cuda", cuda(Gpu(memory_limit_bytes=1))),
        ("tensorrt", tensorrt(Gpu(tensorrt_cache=Path()), fp16=True, shape=("patches", 4, 48), max_batch_size=8)),
    ],
)
def test_every_option_of_a_provider_is_one_that_it_knows(library: str, providers: Providers, gpu_build: Path) -> None:
    content = (gpu_build / "onnxruntime" / "capi" / f"libonnxruntime_providers_{library}.so").read_bytes()
    _, options = providers[0]
    assert [name for name in options if b"\0" + name.encode() + b"\0" not in content] == []


@contextmanager
def served(gpu_build: Path) -> Iterator[tuple[str, list[str]]]:
    """A server that has started: its address, and what it has logged until then."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "serve", "--port", str(port), "--instances", "1"],
        cwd=ROOT, env=environment(gpu_build), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Application startup complete" in line:
                break
        else:
            pytest.fail("".join(lines))
        yield f"http://127.0.0.1:{port}", lines
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def get(url: str) -> str:
    """The body at `url`. The server listens a moment after its log says that it has started."""
    pause, attempts = threading.Event(), round(PATIENCE_S * 100)
    while True:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as error:
            attempts -= 1
            if not attempts or not isinstance(error.reason, ConnectionRefusedError):
                raise
            pause.wait(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
