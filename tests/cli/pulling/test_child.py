"""`mixer serve MODEL` in a process of its own: from nothing, a second time, offline, and with what cannot be served."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import Settings
from cli.pulling import child
from cli.pulling.asked import Asked
from cli.pulling.store import Made, Store
from model.errors import CheckpointError
from tests.app.color_bundle import color_spec, write_bundle
from tests.app.servers import clean_environment, free_port
from tests.model.hubs.hub_server import HubServer, serving
from tests.pace import slowness_at_first

ROOT = Path(__file__).parents[3]
CONTENT = (ROOT / "tests" / "vectors" / "timm_tiny.safetensors").read_bytes()
CONFIG = {"architecture": "mixer_s16_224", "num_classes": 7, "label_names": list("abcdefg")}
MODEL = "hf-hub:someone/mixer"
NAME = "timm:mixer_b16_224.goog_in21k"


# --- in this process: nothing is started ---


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    return Store(tmp_path / "cache")


def put(store: Store, *, passed: bool = True) -> Path:
    with store.making(Asked(NAME), lambda: None) as folder:
        bundle = write_bundle(folder / "key" / "colours", color_spec())
        return store.put(Asked(NAME), "key", Made(bundle, passed, "self-check: as the test has it.")).bundle


def test_a_bundle_is_served_as_it_is(store: Store, tmp_path: Path) -> None:
    chosen = Settings(bundle=write_bundle(tmp_path / "colours", color_spec()))
    assert child.with_bundle(chosen) is chosen


def test_a_model_that_was_made_before_is_served_from_the_cache(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = put(store)
    chosen = Settings(bundle=Path(NAME), workers=3)
    assert child.with_bundle(chosen) == chosen.model_copy(update={"bundle": bundle})
    assert capsys.readouterr().err == ""


def test_a_shadow_may_be_a_model_too(store: Store) -> None:
    bundle = put(store)
    chosen = Settings(shadow=Path(NAME))
    assert child.with_shadow(chosen) == chosen.model_copy(update={"shadow": bundle})
    assert child.with_shadow(unchanged := Settings(shadow=bundle)) == unchanged
    assert child.with_shadow(without := Settings()) is without


def test_a_check_that_failed_is_told_at_every_start(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    put(store, passed=False)
    child.with_bundle(Settings(bundle=Path(NAME)))
    assert capsys.readouterr().err == f"warning: {NAME}: self-check: as the test has it.\n"


@pytest.mark.process
def test_a_bundle_is_served_without_a_word_of_hubs_or_converters(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cli import main; from cli.pulling.child import bundle_of;"
        f"bundle_of(Path({str(write_bundle(tmp_path, color_spec()))!r}));"
        "print({'huggingface_hub', 'httpx', 'httpx2', 'torch', 'onnx', 'safetensors', 'tqdm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_an_unknown_name_starts_nothing(store: Store) -> None:
    with pytest.raises(CheckpointError, match=r"^timm:resnet50 is not a checkpoint that is known here; expected"):
        child.with_bundle(Settings(bundle=Path("timm:resnet50")))


# --- with processes ---


@pytest.fixture
def server() -> Iterator[HubServer]:
    with serving(CONTENT) as answering:
        answering.small["config.json"] = json.dumps(CONFIG).encode()
        yield answering


def run(server: HubServer, home: Path, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    kept = {name: value for name, value in clean_environment().items() if not name.startswith(("HF_", "XDG_"))}
    own = {"HOME": str(home), "HF_ENDPOINT": server.url, "NO_PROXY": "127.0.0.1,localhost"}
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments], cwd=ROOT, env={**kept, **own, **variables}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def lines_until(process: "subprocess.Popen[str]", words: str) -> list[str]:
    """The lines that it says up to one with these words."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError("".join(lines))


@pytest.mark.process
@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_from_nothing_to_a_ready_service_and_again_without_a_hub(server: HubServer, tmp_path: Path) -> None:
    def start(**variables: str) -> list[str]:
        arguments = ("serve", MODEL, "--workers", "1", "--port", str(free_port()))
        with run(server, tmp_path, *arguments, **variables) as process:
            lines = lines_until(process, "ready on http")
            process.terminate()
            process.communicate(timeout=60 * slowness_at_first())
        return lines

    first = "".join(start())
    assert f"converting {MODEL}\n" in first
    assert f"{MODEL}: self-check passed: finite logits, and different ones for two pictures.\n" in first
    asked = len(server.requests)
    second = "".join(start(HF_HUB_OFFLINE="1"))
    assert "converting" not in second
    assert len(server.requests) == asked


@pytest.mark.process
@pytest.mark.parametrize(
    ("architecture", "words"),
    [("resnet50", "config.json of someone/mixer has the architecture 'resnet50'; expected a Mixer of timm's, ")],
)
def test_what_cannot_be_served_ends_the_service_with_one_line(
    server: HubServer, tmp_path: Path, architecture: str, words: str
) -> None:
    server.small["config.json"] = json.dumps({**CONFIG, "architecture": architecture}).encode()
    with run(server, tmp_path, "serve", MIXER_BUNDLE=MODEL) as process:
        out, err = process.communicate(timeout=60 * slowness_at_first())
    assert (process.returncode, out) == (2, "")
    assert err.startswith(f"mixer: {words}")
    assert err.count("\n") == 1


@pytest.mark.process
def test_a_stop_while_the_model_is_fetched_ends_both_processes(server: HubServer, tmp_path: Path) -> None:
    server.stands_still_after = 1000
    with run(server, tmp_path, "serve", NAME) as process:
        assert server.stands_still.wait(60 * slowness_at_first())
        os.kill(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=60 * slowness_at_first())  # its child has closed the pipe, too
    server.goes_on.set()
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.onnx"))
