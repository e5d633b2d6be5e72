"""benchmarks/gpu.py on a machine without a GPU, as a command: it runs to its end, or says what is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.on_gpu import run
from tests.pace import slowness_at_first

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(600)]


def script(*flags: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXER_")}
    command = [sys.executable, str(SCRIPT), *map(str, flags)]
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # torch's threads wait busily for each other
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500 * slowness_at_first(),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("gpu")
    return script("--provider", "cpu", "--quick", "--out", out), out


def test_it_runs_to_its_end_without_a_gpu(whole: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, out = whole
    assert done.returncode == 0, done.stderr
    content = json.loads((out / "gpu.json").read_text())
    assert list(content) == list(run.SECTIONS)
    assert [name for name, section in content.items() if not section["ok"]] == []


def test_every_section_has_figures(whole: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    content = json.loads((whole[1] / "gpu.json").read_text())
    assert content["provider"]["providers"] == ["CPUExecutionProvider"]
    assert content["provider"]["nodes"]["CPUExecutionProvider"] > 10
    assert content["parity"]["fp32"]["top1_agreement"] == 1
    assert content["rungs"]["rungs"][-1] == {
        "rung": 8, "pictures": 8, "padding": 0, "difference": content["rungs"]["rungs"][-1]["difference"],
        "same": content["rungs"]["rungs"][-1]["same"],
    }  # fmt: skip
    assert {row["padding"] for row in content["rungs"]["rungs"]} == {0, 1}
    assert content["memory"]["runs"] == 40
    assert len(content["memory"]["bytes_in_use"]) == 21
    by_size = content["throughput"]["tiny"]["images_s"]
    assert list(by_size) == ["1", "2"]
    assert len(by_size["1"]) == 1 + 2 + 2 * 2 * 3, (
        "bound, engine in one instance and all; three ways of torch, two dtypes"
    )
    assert all(rate > 0 for rates in by_size.values() for rate in rates.values())
    assert content["end_to_end"]["tiny"]["ceiling"]["images_s"] > 0


def test_the_service_answers_rightly_with_one_and_two_workers(
    whole: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    models = json.loads((whole[1] / "gpu.json").read_text())["http"]
    assert {"the small model", "tiny"} < set(models)
    for model in (models["the small model"], models["tiny"]):
        assert list(model["services"]) == ["1", "2"]
        assert all(service["memory_bytes"] > 10 << 20 for service in model["services"].values())
        cells = {(load["workers"], load["connections"]): load["rounds"] for load in model["loads"]}
        assert set(cells) == {(1, 2), (2, 2), (1, 4), (2, 4)}
        for (one,) in cells.values():
            assert one["answered"] > 0
            assert (one["wrong"], one["failed"]) == (0, {})
            assert one["images_a_run"] >= 1
        assert set(model["images_s_without_http"]) == {"the engine", "bare threads that decode and run"}
        assert model["unfinished"] == ""
    assert models["tiny"]["precision"] == "fp32"


def test_the_markdown_has_a_heading_and_a_verdict_for_each(
    whole: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    text = (whole[1] / "gpu.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert [heading.split(":")[0] for heading in headings] == [f"## {name.replace('_', ' ')}" for name in run.SECTIONS]
    assert all(": ok (" in heading for heading in headings)
    assert "| **ours / best torch.compile fp16, on the device** |" in text
    assert " binds: " in text


def test_without_a_gpu_it_says_all_that_is_missing_and_ends_with_2(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = script("--out", tmp_path / "out")
    assert done.returncode == 2
    first, *lines = done.stderr.splitlines()
    assert first == "benchmarks/gpu.py cannot run here. Missing:"
    assert f"  torch {torch.__version__} sees no GPU" in lines
    assert not (tmp_path / "out").exists()


def test_without_the_repository_on_its_path_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-P", str(SCRIPT), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "benchmarks/gpu.py cannot run here. Missing:",
        "  benchmarks: this repository: run from its root with PYTHONPATH=.",
    ]
