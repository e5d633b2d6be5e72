"""The command line: pictures without a server, bundles looked into, mistakes in one line."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from app.server import serve as server
from app.server import topology
from app.settings import Settings
from app.system.worker_context import WorkerContext
from cli import __main__ as entrance
from cli.main import Commands
from tests.app.color_bundle import color_spec, write_bundle
from tests.app.servers import ROOT, clean_environment, free_port
from tests.pace import slowness_at_first

Mixer = Callable[..., int]


# --- Ctrl-C ---


def _interrupted() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_ends_a_command_with_130_and_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    commands = typer.Typer(cls=Commands)
    commands.command("export")(_interrupted)
    commands.command("other")(lambda: None)
    with pytest.raises(SystemExit) as ended:
        commands(["export"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\nmixer: export was stopped.\n"


def test_ctrl_c_while_the_command_line_loads_ends_with_130_and_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entrance, "_run", _interrupted)
    with pytest.raises(SystemExit) as ended:
        entrance.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\nmixer: stopped.\n"


# --- inspect ---


def test_inspect_prints_the_spec_and_the_precisions(
    mixer: Mixer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = color_spec(name="Farben-ä")
    folder = write_bundle(tmp_path, spec, ("fp32", "int8"))
    assert mixer("inspect", folder) == 0
    out = capsys.readouterr().out
    assert json.loads(out) == {
        "precisions": {"fp32": str(folder / "fp32.onnx"), "int8": str(folder / "int8.onnx")},
        "spec": json.loads(spec.model_dump_json()),
    }
    assert "Farben-ä" in out


# --- mistakes ---


def expect_one_line(capsys: pytest.CaptureFixture[str], start: str) -> None:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"mixer: {start}"), captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("command", ["inspect", "classify"])
def test_a_bundle_that_is_none(
    command: str, mixer: Mixer, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    arguments = [empty] if command == "inspect" else [images, "--bundle", empty]
    assert mixer(command, *arguments) == 3
    expect_one_line(capsys, f"The bundle {empty} has no fp32.onnx, fp16.onnx or int8.onnx.")


def test_a_checkpoint_that_is_none(mixer: Mixer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mixer("export", tmp_path, tmp_path / "out") == 2
    expect_one_line(capsys, str(tmp_path))


@pytest.mark.parametrize("arguments", [["classify"], ["nonsense"], ["classify", "--nonsense", "x"], ["inspect"]])
def test_a_command_line_that_makes_no_sense(arguments: list[str], mixer: Mixer) -> None:
    assert mixer(*arguments) == 2


def test_help_names_every_command(mixer: Mixer, capsys: pytest.CaptureFixture[str]) -> None:
    assert mixer("--help") == 0
    out = capsys.readouterr().out
    for command in ("serve", "classify", "inspect", "train", "import", "export", "evaluate"):
        assert f" {command} " in out


def test_the_version_is_that_of_the_package(mixer: Mixer, capsys: pytest.CaptureFixture[str]) -> None:
    assert mixer("--version") == 0
    assert capsys.readouterr().out == f"mixer-serve {version('mixer-serve')}\n"


# --- serve ---


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Settings]]:
    """What `mixer serve` would have served as each of its workers, with the exit code 7."""
    calls: list[tuple[Any, Settings]] = []

    def serve(make: Callable[[WorkerContext], Any], settings: Settings) -> int:
        calls.append((make(WorkerContext()), settings))
        return 7

    monkeypatch.setattr(server, "serve", serve)
    return calls


def test_serve_serves_one_application(mixer: Mixer, bundle: Path, served: list[tuple[Any, Settings]]) -> None:
    assert mixer("serve", "--bundle", bundle, "--workers=1", "--instances=1", "--port", 9100) == 7
    ((application, settings),) = served
    assert application.app.title == "mixer-serve"
    assert (settings.port, settings.bundle, settings.workers) == (9100, bundle, 1)


@pytest.mark.parametrize(("flags", "workers"), [([], 3), (["--workers", 2], 2), (["--instances", 3], 1)])
def test_serve_fills_in_what_the_settings_leave_open(
    flags: list[object],
    workers: int,
    mixer: Mixer,
    bundle: Path,
    served: list[tuple[Any, Settings]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topology, "usable_cpus", lambda: 3)
    monkeypatch.setattr(topology, "memory_bytes", lambda: None)
    assert mixer("serve", "--bundle", bundle, "--provider", "cpu", *flags) == 7
    ((application, settings),) = served
    assert application.app.title == "mixer-serve"
    assert settings.workers == workers
    assert min(settings.instances, settings.intra_op_threads, settings.decode_threads) >= 1


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_start_ends_with_its_exit_code_and_one_line(
    workers: int, mixer: Mixer, tmp_path: Path, served: list[tuple[Any, Settings]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("serve", "--bundle", tmp_path, "--workers", workers) == 3
    expect_one_line(capsys, f"The bundle {tmp_path} has no fp32.onnx")
    assert served == []


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prot", "3"], "--prot is no option of mixer serve; the nearest is --port. See mixer serve --help."),
        (["a", "b"], "Got unexpected extra argument(s) (b). See mixer serve --help."),
        (["extra"], "MODEL is 'extra' and --bundle '"),
        (["--port", "0"], "MIXER_PORT is '0': input should be greater than or equal to 1."),
        (["--api-keys", "short"], "MIXER_API_KEYS, entry 1: the key has 5 characters; expected at least 16."),
    ],
)
def test_an_option_of_serve_that_makes_no_sense(
    arguments: list[str], words: str, mixer: Mixer, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("serve", "--bundle", bundle, *arguments) == 2
    expect_one_line(capsys, words)


def test_keys_that_are_too_short_are_known_to_every_worker(
    mixer: Mixer, bundle: Path, served: list[tuple[Any, Settings]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("serve", "--bundle", bundle, "--workers", 2, "--api-keys", "short") == 2
    expect_one_line(capsys, "MIXER_API_KEYS, entry 1: the key has 5 characters; expected at least 16.")
    assert served == []


def test_a_variable_that_makes_no_sense(
    mixer: Mixer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIXER_PORT", "x")
    assert mixer("serve") == 2
    expect_one_line(capsys, "MIXER_PORT is 'x': input should be a valid integer")


def test_a_port_that_is_taken(mixer: Mixer, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert mixer("serve", "--bundle", bundle, "--instances", 1, "--port", port) == 1
    expect_one_line(capsys, f"MIXER_HOST is 127.0.0.1 and MIXER_PORT {port}, which cannot be listened on: ")


def test_the_help_of_serve_lists_every_option(mixer: Mixer, capsys: pytest.CaptureFixture[str]) -> None:
    assert mixer("serve", "--help") == 0
    out = capsys.readouterr().out
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')} " in out


@pytest.mark.process
def test_the_provider_that_is_missing_ends_the_process_with_3_and_one_line(bundle: Path) -> None:
    """In a process of its own, as a user starts it, whose ONNX Runtime offers no GPU even where it could."""
    script = "import onnxruntime, sys; onnxruntime.get_available_providers = lambda: ['CPUExecutionProvider']; "
    finished = subprocess.run(
        [sys.executable, "-c", script + "from cli.main import main; main()", "serve", "--port", str(free_port())],
        cwd=ROOT,
        env=clean_environment(MIXER_PROVIDER="cuda", MIXER_BUNDLE=str(bundle)),
        capture_output=True,
        check=False,
        timeout=100 * slowness_at_first(),
        text=True,
    )
    assert finished.returncode == 3
    assert finished.stdout == ""
    assert finished.stderr.startswith("mixer: provider is cuda; this ONNX Runtime offers CPUExecutionProvider, not ")
    assert finished.stderr.count("\n") == 1


@pytest.mark.process
def test_onnx_runtime_is_told_to_report_nothing_before_it_is_imported() -> None:
    code = """
import os, sys
from cli import main
assert "onnxruntime" not in sys.modules
sys.argv = ["mixer", "inspect", "no-such-bundle"]
try:
    main.main()
except SystemExit:
    print(os.environ["ORT_DISABLE_TELEMETRY"], "onnxruntime" in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True"]
