"""What is used stays, what nobody has used for long goes, and what remains is found as before."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.pulling.asked import Asked
from cli.pulling.pruning import prune
from cli.pulling.store import Made, Store
from model.errors import CheckpointError
from tests.app.color_bundle import color_spec, write_bundle

ROOT = Path(__file__).parents[3]
DAY_S = 86_400
OLD, NEW = "timm:mixer_b16_224.goog_in21k", "google:gsam/Mixer-S_8"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """OLD, last used 40 days ago, and NEW."""
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path))
    store = Store(tmp_path)
    put(store, OLD, "old")
    put(store, NEW, "new")
    unused(store, "old", 40)
    return store


def put(store: Store, source: str, key: str) -> None:
    with store.making(Asked(source), lambda: None) as folder:
        made = Made(write_bundle(folder / key / "colours", color_spec()), True, "self-check passed.")
        store.put(Asked(source), key, made)


def unused(store: Store, key: str, days: float) -> None:
    then = time.time() - days * DAY_S
    os.utime(store.models / key, (then, then))


def outcomes(store: Store, days: float = 30) -> dict[str, str]:
    return {one.folder.name: one.outcome for one in prune(store, days)}


def test_what_nobody_has_used_for_long_goes_with_all_that_names_it(store: Store) -> None:
    (old, new) = sorted(prune(store, 30), key=lambda one: one.outcome, reverse=True)
    assert (old.folder, old.outcome, old.sources) == (store.models / "old", "removed", (OLD,))
    assert old.unused_days == pytest.approx(40, abs=0.1)
    assert old.num_bytes == new.num_bytes > 0
    assert not old.folder.exists()
    assert store.find(Asked(OLD)) is None
    assert store.find(Asked(NEW)) is not None
    assert [json.loads(path.read_text())["source"] for path in store.asked.glob("*.json")] == [NEW]


def test_a_bundle_that_is_asked_for_is_used_from_then_on(store: Store) -> None:
    made = store.find(Asked(OLD))
    assert made is not None
    assert store.hold(made.bundle)
    assert outcomes(store) == {"old": "kept", "new": "kept"}


HOLDER = """
import sys
from pathlib import Path
from cli.pulling.child import bundle_of

bundle_of(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.process
def test_a_bundle_that_another_process_uses_stays_as_long_as_it_does(store: Store) -> None:
    command = [sys.executable, "-c", HOLDER, OLD]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        unused(store, "old", 40)
        assert outcomes(store, 0) == {"old": "in use", "new": "removed"}
        process.communicate()
    assert outcomes(store, 0) == {"old": "removed"}


def test_a_bundle_in_the_cache_that_is_named_by_its_path_is_held_too_and_others_are_left_alone(
    store: Store, tmp_path: Path
) -> None:
    assert store.hold(store.models / "old" / "colours")
    assert outcomes(store, 0)["old"] == "in use"
    assert not store.hold(store.models / "gone" / "colours")
    assert store.hold(tmp_path / "bundles" / "mine"), "which is nobody's to remove"
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    assert store.hold(tmp_path / "ring"), "which whoever opens it tells of"


@pytest.mark.parametrize("path", ["models/old", "models/old/colours/fp32.onnx", "current", "current/fp32.onnx"])
def test_any_path_to_a_bundle_in_the_cache_holds_it(store: Store, tmp_path: Path, path: str) -> None:
    (tmp_path / "current").symlink_to(store.models / "old" / "colours")
    assert store.hold(tmp_path / path)
    assert outcomes(store, 0) == {"old": "in use", "new": "removed"}


def test_a_link_to_a_bundle_that_is_gone_holds_nothing(store: Store, tmp_path: Path) -> None:
    for key in ("old", "gone"):
        (tmp_path / key).symlink_to(store.models / key / "mine")
        assert not store.hold(tmp_path / key)


def test_what_killed_processes_left_goes_and_what_is_being_made_stays(store: Store) -> None:
    for name in (".making-killed", ".going-killed"):
        (store.models / name / "key").mkdir(parents=True)
    with store.making(Asked("other"), lambda: None) as folder:
        assert set(outcomes(store)) == {"old", "new"}
        assert [path.name for path in store.models.glob(".*")] == [folder.name]


def test_a_bundle_that_no_name_stands_for_any_more_and_an_entry_that_cannot_be_read_are_no_trouble(
    store: Store,
) -> None:
    put(store, OLD, "newer")
    (store.asked / "broken.json").write_text("[]")
    sources = {one.folder.name: (one.outcome, one.sources) for one in prune(store, 30)}
    assert sources == {"new": ("kept", (NEW,)), "newer": ("kept", (OLD,)), "old": ("removed", ())}


def test_an_empty_cache_has_nothing_to_remove(tmp_path: Path) -> None:
    assert prune(Store(tmp_path / "none"), 0) == []


def test_what_cannot_be_removed_is_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("cli.pulling.pruning.shutil.rmtree", refuse)
    with pytest.raises(CheckpointError, match=r"/models/\.going-old cannot be removed: Permission denied\.$"):
        prune(store, 30)


def test_the_command_tells_of_every_bundle_and_what_is_freed(
    mixer: Callable[..., int], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("pull", "--prune") == 0
    new, old, summary = capsys.readouterr().out.splitlines()
    assert new.startswith(f"kept: {store.models}/new, 0.0 MB, used 0 days ago: {NEW}")
    assert old.startswith(f"removed: {store.models}/old, 0.0 MB, used 40 days ago: {OLD}")
    assert summary == f"{store.models}: 1 bundle removed, 0.0 MB freed; 0.0 MB are left"
    assert mixer("pull", "--prune", "--unused-days", 0) == 0
    assert store.find(Asked(NEW)) is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "MODEL is missing; expected a name, weights or a checkpoint, or --prune."),
        ((NEW, "--prune"), f"--prune is given with the model {NEW}; expected one of them."),
    ],
)
def test_a_model_and_prune_are_one_or_the_other(
    mixer: Callable[..., int], store: Store, arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("pull", *arguments) == 2
    assert capsys.readouterr().err == f"mixer: {told}\n"
