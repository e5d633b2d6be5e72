"""`mixer bench` as a command: its flags, and its three ways to answer."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cli import main
from cli.bench import comparison as benches
from cli.bench.comparison import Circumstances, Plan, Report
from cli.bench.stopwatch import Progress
from tests.app.servers import ROOT
from tests.cli.bench.test_findings import FIGURES, findings

Mixer = Callable[..., int]

CIRCUMSTANCES = Circumstances(
    bundle="bundles/toy", model="toy", version="7", variant="custom", processor="Fast One [9000]", cpus=2,
    int8_instructions="avx2", int8_products="exact for pairs", precision_reason="auto: because",
    onnxruntime="1.2.3", pictures="8x8 PNG", mean_picture_bytes=1234, seconds=0.5, rounds=3,
    refused={"fp16": "fp16 is not for this provider."},
)  # fmt: skip


@pytest.fixture
def mixer(monkeypatch: pytest.MonkeyPatch) -> Mixer:
    """Runs `mixer ARGUMENTS` in this process and gives its exit code."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["mixer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        code = ended.value.code
        assert isinstance(code, int)
        return code

    return run


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """What would have been measured; the answer is that of test_findings.py."""
    made: list[Plan] = []

    def run(plan: Plan, progress: Progress) -> Report:
        made.append(plan)
        progress(1, 1)
        return Report(CIRCUMSTANCES, findings(FIGURES))

    monkeypatch.setattr(benches, "run", run)
    return made


def test_tables_by_default(mixer: Mixer, plans: list[Plan], capsys: pytest.CaptureFixture[str]) -> None:
    assert mixer("bench", "bundles/toy") == 0
    captured = capsys.readouterr()
    first, found, second, *others = captured.out.splitlines()
    assert first == "toy 7 (bundles/toy) on Fast One [9000], 2 CPUs, ONNX Runtime 1.2.3, cpu"
    assert found == (
        "instructions for bytes: avx2, products of bytes: exact for pairs; the service runs int8 (auto: because)"
    )
    assert second == "pictures: 8x8 PNG, 1,234 bytes; medians of 3 rounds of 0.5 s, ± half of their spread"
    assert others[-1].startswith("The model binds: ")
    assert captured.err == "fp16 is not measured: fp16 is not for this provider.\n"


def test_json_is_one_object_and_nothing_else(
    mixer: Mixer, plans: list[Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("bench", "bundles/toy", "--json") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    content = json.loads(captured.out)
    assert content["circumstances"]["refused"] == {"fp16": "fp16 is not for this provider."}
    assert content["binds"]["resource"] == "model"


def test_a_plot_is_drawn_beside_either(mixer: Mixer, plans: list[Plan], tmp_path: Path) -> None:
    assert mixer("bench", "bundles/toy", "--json", "--plot", tmp_path / "bench.png") == 0
    with Image.open(tmp_path / "bench.png") as image:
        assert image.format == "PNG"


def test_every_flag_reaches_the_plan(mixer: Mixer, plans: list[Plan], tmp_path: Path) -> None:
    flags = ["--seconds", 2, "--rounds", 5, "--provider", "cpu", "--precision", "int8", "--max-batch-size", 64]
    assert mixer("bench", "bundles/toy", *flags, "--pictures", tmp_path) == 0
    (plan,) = plans
    expected: dict[str, Any] = {
        "bundle": Path("bundles/toy"), "seconds": 2, "rounds": 5, "provider": "cpu", "precision": "int8",
        "max_batch_size": 64, "pictures": tmp_path,
    }  # fmt: skip
    assert {name: getattr(plan, name) for name in expected} == expected


def test_the_limits_of_pictures_are_those_of_the_service(
    mixer: Mixer, plans: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXER_MAX_IMAGE_BYTES", "4321")
    assert mixer("bench", "bundles/toy") == 0
    assert plans[0].decode_limits.max_bytes == 4321


def test_variables_of_the_service_are_no_flags(
    mixer: Mixer, plans: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDS", "9")
    monkeypatch.setenv("MIXER_PRECISION", "fp32")
    assert mixer("bench", "bundles/toy") == 0
    assert (plans[0].rounds, plans[0].precision) == (3, "auto")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--rounds", "0"], "--rounds is '0': input should be greater than or equal to 1."),
        (["--seconds", "0"], "--seconds is '0': input should be greater than 0."),
        (["--precision", "fp8"], "--precision is 'fp8': input should be 'auto', 'fp32', 'fp16' or 'int8'."),
        (["--no-such-flag", "1"], "--no-such-flag is no option of mixer bench. See mixer bench --help."),
        (["--plot", "/nowhere/bench.png"], "--plot is /nowhere/bench.png; expected a file in a folder that exists."),
    ],
)
def test_an_impossible_flag_is_one_line_and_nothing_is_measured(
    flags: list[str], words: str, mixer: Mixer, plans: list[Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("bench", "bundles/toy", *flags) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"mixer: {words}\n")
    assert plans == []


def test_a_bundle_that_is_none_is_one_line(mixer: Mixer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mixer("bench", tmp_path, "--seconds", "0.001") == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"mixer: The bundle {tmp_path} has no fp32.onnx, fp16.onnx or int8.onnx.\n"


def test_a_precision_that_the_bundle_has_not_is_one_line(
    mixer: Mixer, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("bench", bundle, "--precision", "int8") == 3
    assert capsys.readouterr().err == f"mixer: precision is int8; the bundle {bundle} has fp32.\n"


def test_the_command_is_listed(mixer: Mixer, capsys: pytest.CaptureFixture[str]) -> None:
    assert mixer("--help") == 0
    assert " bench " in capsys.readouterr().out


def test_help_explains_every_flag(mixer: Mixer, capsys: pytest.CaptureFixture[str]) -> None:
    assert mixer("bench", "--help") == 0
    out = capsys.readouterr().out
    for flag in (
        "BUNDLE", "--json", "--plot", "--seconds", "--rounds", "--provider", "--precision", "--max-batch-size",
        "--pictures",
    ):  # fmt: skip
        assert flag in out


def test_the_whole_command_on_a_real_bundle(
    mixer: Mixer, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benches, "Plan", functools.partial(Plan, product_sizes=(16,)))
    quick = ["--seconds", 0.001, "--rounds", 1, "--max-batch-size", 2]
    assert mixer("bench", bundle, "--json", *quick, "--plot", tmp_path / "bench.png") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    content = json.loads(captured.out)
    assert content["service"]["precision"] == "fp32"
    assert content["ceiling"]["images_s"] > 0
    assert (tmp_path / "bench.png").stat().st_size > 1000


@pytest.mark.process
def test_nothing_heavy_is_loaded_with_the_command_line() -> None:
    code = "import sys; from cli import main; print(*{'onnxruntime', 'matplotlib', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
