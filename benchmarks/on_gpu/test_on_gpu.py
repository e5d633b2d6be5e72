"""benchmarks/gpu.py on a machine without a GPU: it runs to its end, and its own bookkeeping is right."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks import gpu
from benchmarks.on_gpu import requirements, run
from benchmarks.on_gpu.candidates import TorchPatches
from benchmarks.on_gpu.http import section as http_section
from benchmarks.on_gpu.logits import agreement, difference
from benchmarks.on_gpu.machine import TINY
from benchmarks.on_gpu.networks import random_mixer, spec_of
from benchmarks.on_gpu.patches import noise
from benchmarks.on_gpu.sections import Section, write
from benchmarks.on_gpu.surroundings import nodes_by_provider, nvidia_smi
from benchmarks.on_gpu.throughput import against_compiled
from cli.bench.stopwatch import Measured
from tests.pace import slowness_at_first

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


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


# --- the whole script ---


pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(600)]


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
    assert {"the default bundle", "tiny"} < set(models)
    for model in (models["the default bundle"], models["tiny"]):
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


# --- its parts ---


def test_all_missing_packages_are_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(requirements, "PACKAGES", {"numpy": "numpy", "no_such": "no-such", "nor_this": "nor-this"})
    assert requirements.missing("cuda", None) == ["no_such: no-such", "nor_this: nor-this"]
    (tmp_path / "no_such-1.0-py3-none-any.whl").touch()
    assert requirements.missing("cuda", tmp_path) == [
        f"no_such: no-such (in {tmp_path})",
        f"nor_this: nor-this (not in {tmp_path})",
    ]
    monkeypatch.setattr(
        requirements, "PACKAGES", {"no_pil": "No-Such, a build"}
    )  # the module has another name than its wheel
    assert requirements.missing("cuda", tmp_path) == [f"no_pil: No-Such, a build (in {tmp_path})"]


def test_without_its_packages_http_alone_is_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(http_section, "HTTP_PACKAGES", {"numpy": "numpy", "no_such": "no-such"})
    assert requirements.missing("cpu", None) == []
    assert main(tmp_path, "--sections", "surroundings,http") == 0
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert content["http"]["skipped"] == ["no_such: no-such"]
    assert [content[name]["verdict"] for name in ("surroundings", "http")] == ["ok", "skipped"]
    assert "Skipped. Missing: no_such: no-such." in (tmp_path / "gpu.md").read_text()
    captured = capsys.readouterr()
    assert "http: skipped" in captured.out
    assert captured.err == "Skipped. Missing: no_such: no-such.\n"


def test_the_packages_of_http_are_those_that_the_service_needs() -> None:
    """Whatever a bare machine lacks is named, so nothing that the server's extra brings may be left out."""
    named = {package.split(",")[0].lower() for package in (requirements.PACKAGES | requirements.HTTP_PACKAGES).values()}
    assert needed_by("mixer-serve", "server") <= named


def needed_by(package: str, extra: str = "", seen: frozenset[str] = frozenset()) -> set[str]:
    """Distributions that a package brings here, and those that they bring."""
    found: set[str] = set()
    for line in requires(package) or []:
        needed = Requirement(line)
        name = canonicalize_name(needed.name)
        if name not in seen | found and (needed.marker is None or needed.marker.evaluate({"extra": extra})):
            found |= {name} | needed_by(name, "", seen | found | {name})
    return found


@pytest.mark.parametrize("flag", ["0,2", "two", "1,,2", ""])
def test_numbers_are_counted_from_one(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.parsed(["--out", "out", "--workers", flag])
    assert "expected numbers from 1 on, separated by commas" in capsys.readouterr().err


def test_a_cpu_build_of_onnx_runtime_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    (line,) = requirements.missing("cuda", None)
    assert line.startswith(f"onnxruntime {onnxruntime.__version__} at {onnxruntime.__file__} is the CPU build; ")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert requirements.missing("cuda", None) == []
    assert requirements.missing("cpu", None) == []


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """One that fails, one whose check does not hold, one that is fine."""

    def broken(machine: object, section: Any) -> None:
        section.say("before it broke")
        raise RuntimeError("broken on purpose")

    def doubtful(machine: object, section: Any) -> None:
        section.expect(False, "not as expected")
        section.figures["seen"] = 1

    def fine(machine: object, section: Any) -> None:
        section.table(("a", "b"), [(1, "x|y")])

    made = {"broken": broken, "doubtful": doubtful, "fine": fine}
    monkeypatch.setattr(run, "SECTIONS", made)
    return made


def main(out: Path, *flags: str) -> int:
    code = gpu.main(gpu.parsed(["--provider", "cpu", "--quick", "--out", str(out), *flags]))
    assert isinstance(code, int)
    return code


def test_a_section_that_fails_is_told_and_costs_no_other(
    sections: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path / "a" / "b") == 1
    content = json.loads((tmp_path / "a" / "b" / "gpu.json").read_text())
    assert [(name, section["ok"]) for name, section in content.items()] == [
        ("broken", False), ("doubtful", False), ("fine", True),
    ]  # fmt: skip
    assert "RuntimeError: broken on purpose" in content["broken"]["failures"][0]
    assert content["doubtful"]["failures"] == ["not as expected"]
    assert content["doubtful"]["seen"] == 1
    text = (tmp_path / "a" / "b" / "gpu.md").read_text()
    assert "## broken: FAILED" in text
    assert "before it broke" in text
    assert "RuntimeError: broken on purpose" in text
    assert "| a | b |\n| --- | --- |\n| 1 | x/y |\n" in text
    captured = capsys.readouterr()
    assert [line.split(" (")[0] for line in captured.out.splitlines()] == [
        "broken: FAILED",
        "doubtful: FAILED",
        "fine: ok",
    ]
    assert "broken on purpose" in captured.err


def test_a_section_may_write_what_it_has_while_it_is_under_way(tmp_path: Path) -> None:
    section = Section("http")
    write([section], tmp_path)
    assert json.loads((tmp_path / "gpu.json").read_text())["http"]["verdict"] == "under way"
    assert "## http: under way" in (tmp_path / "gpu.md").read_text()


def test_some_sections_may_be_chosen(
    sections: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, "--sections", "fine") == 0
    assert list(json.loads((tmp_path / "gpu.json").read_text())) == ["fine"]
    assert main(tmp_path, "--sections", "fine,nonsense") == 2
    assert capsys.readouterr().err == "--sections has nonsense; expected some of broken, doubtful, fine.\n"


def test_after_the_time_limit_nothing_new_is_begun(tmp_path: Path) -> None:
    assert main(tmp_path, "--sections", "throughput,end_to_end,http", "--time-limit-s", "1e-9") == 0
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert "tiny" not in content["throughput"]
    assert content["http"]["skipped"] == "out of time"
    assert "tiny: not measured, out of time." in (tmp_path / "gpu.md").read_text()


def test_a_profile_is_counted_by_provider(tmp_path: Path) -> None:
    def event(category: str, **arguments: str) -> dict[str, Any]:
        return {"cat": category, "args": arguments}

    events = [event("Session"), event("Node"), event("Node", provider="A"), event("Node", provider="B"),
              event("Node", provider="A"), event("Api", provider="C")]  # fmt: skip
    (tmp_path / "profile.json").write_text(json.dumps(events))
    assert nodes_by_provider(tmp_path / "profile.json") == {"A": 2, "B": 1}


def test_differences_are_relative_to_the_range_of_what_is_expected() -> None:
    expected = np.array([[0.0, 10.0], [5.0, 2.0]], dtype=np.float32)
    found = np.array([[0.0, 10.0], [5.0, 7.0]], dtype=np.float32)
    assert difference(found, expected) == 0.5
    assert agreement(found, expected) == 0.5
    assert not difference(np.full((2, 2), np.nan, dtype=np.float32), expected) <= 1


def test_ours_is_held_against_the_faster_way_of_torch_compile_round_by_round() -> None:
    def figures(**rates: Sequence[float]) -> dict[str, Measured]:
        names = {
            "ours": "ONNX Runtime, bound fp16, on the device",
            "plain": "torch.compile fp16, on the device",
            "graphs": "torch.compile fp16, CUDA graphs, on the device",
            "bf16": "torch.compile bf16, on the device",
            "eager": "torch eager fp16, on the device",
            "host": "torch.compile fp16, from the host",
        }
        return {names[name]: Measured(tuple(rounds)) for name, rounds in rates.items()}

    found = figures(
        ours=(30, 20, 10),
        plain=(5, 5, 5),
        graphs=(10, 10, 10),
        bf16=(99, 99, 99),
        eager=(99, 99, 99),
        host=(99, 99, 99),
    )
    assert against_compiled(found, "on the device") == 2


def test_nvidia_smi_is_read_field_by_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text('#!/bin/sh\n[ "$1" = --query-gpu=driver_version,memory.total ] && echo "580.1, 143771 MiB"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert nvidia_smi("driver_version", "memory.total") == ["580.1", "143771 MiB"]


def test_torch_computes_what_the_graph_computes() -> None:
    """The competitor has the same folded stem; in float32 it is the model to the last digits."""
    config = TINY["tiny"]
    model = random_mixer(config)
    spec = spec_of("tiny", config)
    patches = torch.from_numpy(np.stack(noise(spec, 3)))
    with torch.inference_mode():
        expected = model.classify(model.embed(patches))
        found = TorchPatches(random_mixer(config), torch.float32)(patches)
    assert torch.allclose(found, expected, atol=1e-4)
    assert expected.abs().max() > 0.1
