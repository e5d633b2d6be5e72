"""A whole run of `mixer bench` on a toy bundle: what it measures fits together."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.decoding.decoder import DecodeLimits
from app.engine.runners import Outputs, Patches
from app.errors import EngineError
from app.system.cpu_limits import int8_instructions, usable_cpus
from cli.bench import comparison
from cli.bench.comparison import Plan, Report, run
from cli.bench.rig import Opened, Rig, Split
from model.spec import Network
from tests.app.color_bundle import RED, color_spec, image, write_bundle

NETWORK = Network(hidden_dim=48, num_blocks=1, tokens_mlp_dim=4, channels_mlp_dim=16)
LIMITS = DecodeLimits(1 << 20, 1 << 20)
QUICK: dict[str, Any] = {"provider": "cpu", "max_batch_size": 4, "seconds": 1e-4, "rounds": 2, "product_sizes": (8, 16)}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("two"), color_spec(), ("fp32", "int8"))


@pytest.fixture(scope="module")
def report(two: Path) -> Report:
    return run(Plan(two, LIMITS, **QUICK), lambda done, total: None)


def test_every_part_is_measured(report: Report) -> None:
    content = json.loads(json.dumps(report.as_json()))
    cpus = usable_cpus()
    splits = 1 if cpus == 1 else len([instances for instances in range(1, cpus + 1) if cpus % instances == 0]) + 1
    assert len(content["model"]) == 2 * splits * 3, "two precisions, every split, batches of 1, 2 and 4"
    assert {row["precision"] for row in content["decode_and_model"]} == {content["service"]["precision"]}
    assert {row["batch_size"] for row in content["decode_and_model"]} == {1, 4}
    numbers = {"float32", "int8"} if int8_instructions() else {"float32"}
    assert {row["number"] for row in content["peaks"]} == numbers
    assert {row["size"] for row in content["peaks"]} == {8, 16}
    assert content["decode"][-1]["threads"] == cpus


def test_every_figure_is_positive_and_a_median_of_as_many_rounds_as_asked_for(report: Report) -> None:
    content = report.as_json()
    rows = [*content["decode"], *content["model"], *content["decode_and_model"]]
    for row, unit in [*((row, "images_s") for row in rows), *((row, "gflop_s") for row in content["peaks"])]:
        assert len(row["rounds"]) == 2
        assert 0 < min(row["rounds"]) <= row[unit] <= max(row["rounds"])
        assert row["spread"] == pytest.approx((max(row["rounds"]) - min(row["rounds"])) / row[unit])


def test_the_summary_agrees_with_the_rows(report: Report) -> None:
    content = report.as_json()
    for precision, summary in content["model_summary"].items():
        rows = [row for row in content["model"] if row["precision"] == precision]
        assert summary["best"]["images_s"] == max(row["images_s"] for row in rows)
        assert summary["service"] in rows
        assert (summary["service"]["instances"], summary["service"]["threads"]) == (
            content["service"]["instances"],
            content["service"]["threads"],
        )
        assert summary["times_fp32"] > 0
    assert content["ceiling"]["images_s"] == max(row["images_s"] for row in content["decode_and_model"])


def test_where_it_was_measured_stands_beside_it(report: Report, two: Path) -> None:
    where = report.as_json()["circumstances"]
    assert (where["bundle"], where["model"], where["version"]) == (str(two), "colours", "7")
    assert (where["pictures"], where["cpus"], where["refused"]) == ("8x8 color PNG, generated", usable_cpus(), {})
    assert (where["seconds"], where["rounds"]) == (1e-4, 2)
    assert where["processor"]
    assert where["onnxruntime"]


def test_the_arithmetic_of_the_spec_becomes_a_share_of_the_peak(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, color_spec(network=NETWORK))
    findings = run(Plan(folder, LIMITS, **QUICK), lambda done, total: None).findings
    efficiency = findings.efficiency("fp32")
    assert efficiency is not None
    assert findings.gflops == color_spec(network=NETWORK).gflops
    assert efficiency.model == findings.measured[findings.best("fp32")].rate * findings.gflops
    assert efficiency.peak > 0
    assert efficiency.share > 0


def test_ones_own_pictures_and_one_precision(two: Path, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(image(RED, size=(20, 20)))
    plan = Plan(two, LIMITS, **QUICK, pictures=tmp_path, precision="int8")
    report = run(plan, lambda done, total: None)
    assert report.circumstances.pictures == f"1 from {tmp_path}"
    assert report.findings.precisions() == ["int8"]
    assert report.findings.times_fp32("int8") is None


def test_on_a_gpu_there_are_its_own_instances_and_no_matrix_products(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(patches: Sequence[Patches]) -> Outputs:
        return Outputs(np.zeros((len(patches), 3), dtype=np.float32))

    opened = Opened("fp16", Split(2, 1), answer)
    rig = Rig(color_spec(), "cuda", "fp16", Split(2, 1), 3, (opened,), {"int8": "int8 is refused."})
    monkeypatch.setattr(comparison, "set_up", lambda *_, **__: rig)
    report = run(Plan(two, LIMITS, **{**QUICK, "provider": "cuda"}), lambda done, total: None)
    content = report.as_json()
    assert content["circumstances"]["refused"] == {"int8": "int8 is refused."}
    assert {(row["instances"], row["threads"]) for row in content["model"]} == {(2, 1)}
    assert {row["batch_size"] for row in content["model"]} == {1, 2, 3, 4}, "the service's own size among them"
    assert {row["batch_size"] for row in content["decode_and_model"]} == {1, 3, 4}
    assert content["peaks"] == []
    assert content["model_summary"]["fp16"]["efficiency"] is None


def test_progress_reaches_its_end(two: Path) -> None:
    steps: list[tuple[int, int]] = []
    run(Plan(two, LIMITS, **QUICK, precision="fp32"), lambda done, total: steps.append((done, total)))
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1] > 0


def test_a_bundle_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"has no fp32.onnx"):
        run(Plan(tmp_path, LIMITS), lambda done, total: None)


def test_the_processor_has_a_name_even_where_nothing_tells_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast One 9000\nflags\t: fpu\n")
    monkeypatch.setattr(comparison, "_CPUINFO", tmp_path / "cpuinfo")
    assert comparison.processor_name() == "Fast One 9000"
    monkeypatch.setattr(comparison, "_CPUINFO", tmp_path / "nowhere")
    assert comparison.processor_name()
