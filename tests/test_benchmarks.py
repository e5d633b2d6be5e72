"""Each driver of benchmarks/ runs to its end, in small, and writes what it prints; its own tests are beside it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from benchmarks.peers import fastapi_service
from tests.app.color_bundle import color_spec, write_bundle
from tests.pace import slowness_at_first

pytestmark = [pytest.mark.process, pytest.mark.heavy]

ROOT = Path(__file__).resolve().parent.parent
ONCE = ["--quick", "--workloads", "8x8"]
DRIVERS = {
    "serving/results.md": [*ONCE, "--only", "this service, batches of 1", "--rounds", "1", "--connections", "1"],
    "overload/overload.md": [*ONCE, "--loads", "0.5", "--retry-share", "0"],
    "soak/soak.md": [
        "--clients",
        "4",
        "--requests",
        "300",
        "--growth",
        "9",
        "--kills",
        "1",
        "--set",
        "MIXER_INSTANCES=1",
    ],
}


@pytest.mark.parametrize("report", DRIVERS)
def test_it_runs_to_its_end_and_writes_what_it_prints(report: str, tmp_path: Path):
    driver, _, name = report.partition("/")
    if driver == "serving" and shutil.which("wrk") is None:
        pytest.skip("needs wrk")
    seconds = [] if driver == "soak" else ["--seconds", "0.5"]
    bundle = write_bundle(tmp_path / "bundle", color_spec())
    folders = ["--bundle", str(bundle), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{driver}", *DRIVERS[report], *seconds, *folders],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("MIXER_")},
        capture_output=True,
        text=True,
        timeout=100 * slowness_at_first(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / name).read_text() == done.stdout.rstrip("\n") + "\n"


@pytest.mark.parametrize("form", [False, True])
def test_the_peer_whose_framework_is_here_answers(form: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEER_GRAPH", str(ROOT / "bundles" / "fashion-mnist" / "fp32.onnx"))
    picture = (ROOT / "tests" / "drawings" / "ankle-boot.png").read_bytes()
    with TestClient(fastapi_service.create_app()) as asking:
        sent = {"files": {"file": picture}} if form else {"content": picture}
        answer = asking.post("/classify", **sent)
    assert answer.status_code == 200
    assert answer.json()["predictions"][0]["label"] == "Ankle boot"
