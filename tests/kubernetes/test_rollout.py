"""Nobody notices a rolling update that is played as the manifest says; benchmarks.rollout plays longer ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.rollout.manifest import Probe, plan_of
from tests.app.color_bundle import RED, image
from tests.app.servers import ROOT, clean_environment
from tests.kubernetes.conftest import objects_of
from tests.pace import slowness_at_first


def test_the_plan_is_what_the_manifest_says() -> None:
    plan = plan_of(objects_of("overlays/cpu"))
    assert (plan.replicas, plan.port, plan.template.arguments) == (2, 8000, ["serve"])
    assert plan.template.readiness == Probe("/health/ready", 8010, 2, 3, 2)
    assert plan.template.variables["MIXER_LOG_FORMAT"] == "json"  # of the ConfigMap
    assert plan.template.variables["MIXER_ADMIN_PORT"] == "8010"  # of the Deployment


@pytest.mark.process
@pytest.mark.timeout(600)
def test_nobody_notices_a_rolling_update(bundle: Path, tmp_path: Path) -> None:
    picture = tmp_path / "red.png"
    picture.write_bytes(image(RED))
    command = [
        sys.executable, "-m", "benchmarks.rollout", "--requests", "400", "--clients", "8",
        "--picture", str(picture), "--label", "red",
        "--set", f"MIXER_BUNDLE={bundle}", "MIXER_WORKERS=1", "MIXER_INSTANCES=1",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True,
        timeout=500 * slowness_at_first(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["sent"] == report["answered"] >= 400
    assert report["failures"] == {}
    assert report["replaced"] >= 2
