"""Which bundles a path names, whether one has changed, and that opening one says what it looked like."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

from app.engine.engine import EngineOptions
from app.errors import EngineError
from app.serving import bundles
from app.serving.bundles import Opened, find_bundles, is_one, open_all, open_bundle, state_of
from cli import main
from tests.app.color_bundle import BLUE, color_spec, image, write_bundle

SPEC = color_spec()


def test_a_bundle_has_the_name_of_its_folder(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "colours.v2", SPEC)
    assert find_bundles(bundle) == {"colours.v2": bundle}


def test_a_single_graph_has_its_own_name(tmp_path: Path) -> None:
    graph = write_bundle(tmp_path, SPEC) / "fp32.onnx"
    assert find_bundles(graph) == {"fp32": graph}


def test_a_path_without_a_name_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_bundle(tmp_path / "here", SPEC))
    assert list(find_bundles(Path())) == ["here"]


def test_a_folder_of_bundles_has_those_with_a_graph_in_order(tmp_path: Path) -> None:
    for name in ("red", "blue", ".hidden"):
        write_bundle(tmp_path / name, SPEC)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no bundle")
    assert list(find_bundles(tmp_path).items()) == [("blue", tmp_path / "blue"), ("red", tmp_path / "red")]
    assert not is_one(tmp_path)


def test_a_folder_with_a_graph_of_its_own_is_one_bundle(tmp_path: Path) -> None:
    write_bundle(tmp_path / "inner", SPEC)
    write_bundle(tmp_path, SPEC)
    assert list(find_bundles(tmp_path)) == [tmp_path.name]
    assert is_one(tmp_path)


def test_a_bundle_may_have_another_name_than_its_folder(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "models", SPEC)
    assert find_bundles(bundle, "shop") == {"shop": bundle}


def test_one_name_is_none_for_several_bundles(tmp_path: Path) -> None:
    write_bundle(tmp_path / "red", SPEC)
    with pytest.raises(EngineError, match=r"MIXER_MODEL_NAME is shop; .+ is a folder of bundles, which have their own"):
        find_bundles(tmp_path, "shop")


def refusal(path: Path) -> str:
    with pytest.raises(EngineError) as refused:
        find_bundles(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def write(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")


def test_where_there_is_none_it_says_what_was_expected(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"The bundle {tmp_path} has no fp32.onnx, fp16.onnx or int8.onnx."


def test_a_path_where_nothing_is_says_so(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nope") == (
        f"The bundle {tmp_path}/nope does not exist; "
        "expected a folder with fp32.onnx, fp16.onnx or int8.onnx, or one .onnx file."
    )


def test_weights_and_checkpoints_are_told_the_commands_that_make_a_bundle_of_them(tmp_path: Path) -> None:
    checkpoint, npz, timm, torch = (tmp_path / name for name in ("pets", "a.npz", "b.safetensors", "c.pth"))
    write(checkpoint / "config.json", checkpoint / "model.safetensors", npz, timm, torch)
    export = f"mixer export {checkpoint} BUNDLE"
    assert refusal(checkpoint) == f"The bundle {checkpoint} is a checkpoint; make a bundle of it: {export}"
    weights = checkpoint / "model.safetensors"
    assert refusal(weights) == f"The bundle {weights} belongs to a checkpoint; make a bundle of it: {export}"
    for file in (npz, timm):
        assert refusal(file) == f"The bundle {file} is a file of weights; make a bundle of it: mixer pull {file}"
    assert refusal(torch).startswith(f"The bundle {torch} is a .pth file; expected an .onnx file, or a folder with ")


def test_what_is_no_bundle_in_a_folder_of_them_is_passed_over_with_the_reason(tmp_path: Path) -> None:
    write_bundle(tmp_path / "colours", SPEC)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.onnx", tmp_path / ".hidden", tmp_path / "pets/config.json", tmp_path / "pets/model.safetensors")
    assert list(find_bundles(tmp_path)) == ["colours"]
    assert bundles.passed_over(tmp_path) == [
        f"{tmp_path}/a.onnx is no folder; expected bundles, each a folder.",
        f"The bundle {tmp_path}/empty has no fp32.onnx, fp16.onnx or int8.onnx.",
        f"The bundle {tmp_path}/pets is a checkpoint; make a bundle of it: mixer export {tmp_path}/pets BUNDLE",
    ]
    assert bundles.passed_over(tmp_path / "colours") == []


def test_a_name_that_no_answer_could_tell_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / os.fsdecode(b"caf\xe9"), SPEC)
    for path in (tmp_path, bundle):
        assert refusal(path) == "The name of the bundle 'caf\\udce9' is not UTF-8; expected a name that is."


@pytest.fixture
def several() -> Iterator[Path]:
    """A folder of bundles, one of them locked, for as long as this process has the rights of an ordinary user."""
    with tempfile.TemporaryDirectory() as made:
        folder, before = Path(made) / "several", os.geteuid()
        folder.parent.chmod(0o755)
        for name in ("locked", "open"):
            write_bundle(folder / name, SPEC)
        (folder / "locked").chmod(0)
        if before == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(before)
            (folder / "locked").chmod(0o755)


def test_what_may_not_be_read_is_one_line(several: Path) -> None:
    words = f"The bundle {several}/locked cannot be read: Permission denied."
    assert refusal(several / "locked") == words
    assert refusal(several) == words


def test_the_state_of_a_bundle_is_that_of_its_graphs(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "colours", SPEC)
    before = state_of(bundle)
    (bundle / "README.md").write_text("new words")
    assert state_of(bundle) == before
    write_bundle(bundle, SPEC, ("fp32", "int8"))
    assert len(state_of(bundle)) == 2


def test_a_graph_put_in_anothers_place_is_another_even_with_its_time_and_size(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "colours", SPEC)
    before, graph = state_of(bundle), bundle / "fp32.onnx"
    shutil.copy2(graph, tmp_path / "copy.onnx")
    (tmp_path / "copy.onnx").replace(graph)
    assert graph.stat().st_mtime_ns == before[0][3]
    assert state_of(bundle) != before


def test_a_link_to_another_folder_is_another_bundle_of_the_same_name(tmp_path: Path) -> None:
    first, second, link = (tmp_path / name for name in ("1", "2", "current"))
    write_bundle(first, SPEC)
    write_bundle(second, SPEC)
    link.symlink_to(first)
    before = state_of(link)
    link.unlink()
    link.symlink_to(second)
    assert list(find_bundles(link)) == ["current"]
    assert state_of(link) != before


def test_an_opened_bundle_is_that_of_the_path_and_not_of_the_options(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "colours", SPEC)
    options = EngineOptions(tmp_path / "another", provider="cpu", instances=1, max_batch_size=2)
    opened = open_bundle(options, bundle)
    assert opened.engine.spec == SPEC
    assert opened.state == state_of(bundle)
    assert opened.sessions.lost_provider() is None


def test_a_bundle_whose_graph_is_gone_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has no fp32"):
        open_bundle(EngineOptions(tmp_path), tmp_path)
    bundle = write_bundle(tmp_path / "colours", SPEC)
    os.truncate(bundle / "fp32.onnx", 100)
    with pytest.raises(EngineError, match="cannot be opened"):
        open_bundle(EngineOptions(tmp_path, provider="cpu"), bundle)


@pytest.mark.parametrize(("default", "label"), [("", "blue"), ("greys", "dark")])
def test_without_a_service_the_default_of_several_classifies(default: str, label: str, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundles" / "colours", SPEC)
    write_bundle(tmp_path / "bundles" / "greys", color_spec(channels=1))
    (tmp_path / "blue.png").write_bytes(image(BLUE))
    environment = {"MIXER_DEFAULT_MODEL": default, "MIXER_INSTANCES": "1"}
    arguments = ["classify", str(tmp_path / "blue.png"), "--bundle", str(tmp_path / "bundles")]
    finished = CliRunner().invoke(main.app, arguments, env=environment)
    assert finished.exit_code == 0
    assert f": {label} " in finished.stdout


# --- opening several ---


def opened_or_refused(bundle: Path) -> Opened:
    """Nothing that could serve, or the words of who is bad."""
    if bundle.name.startswith("bad"):
        raise EngineError(f"{bundle} is bad.")
    return cast(Opened, bundle.name)


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


def test_several_are_opened_at_once_and_come_in_their_order() -> None:
    both, last_is_open = threading.Barrier(2), threading.Event()

    def open_one(bundle: Path) -> Opened:
        both.wait(60)  # it breaks where nobody else comes
        if bundle.name == "a":
            last_is_open.wait(60)
        last_is_open.set()
        return opened_or_refused(bundle)

    assert [str(one) for one in open_all(open_one, paths("a", "b"), 2)] == ["a", "b"]


def test_the_first_that_is_bad_is_told_though_a_later_one_was_faster() -> None:
    later_has_failed = threading.Event()

    def open_one(bundle: Path) -> Opened:
        if bundle.name == "bad-1":
            later_has_failed.wait(60)
        try:
            return opened_or_refused(bundle)
        finally:
            later_has_failed.set()

    with pytest.raises(EngineError, match=r"^bad-1 is bad\.$"):
        list(open_all(open_one, paths("a", "bad-1", "bad-2"), 2))


@pytest.mark.parametrize("at_once", [1, 2])
def test_after_a_bad_one_no_more_are_begun(at_once: int) -> None:
    begun: list[str] = []
    never = threading.Event()

    def open_one(bundle: Path) -> Opened:
        begun.append(bundle.name)
        if bundle.name != "bad":
            never.wait(0.01)  # so that all of them would take 5 s
        return opened_or_refused(bundle)

    with pytest.raises(EngineError):
        list(open_all(open_one, paths("bad", *map(str, range(1000))), at_once))
    assert len(begun) < 1000


@pytest.mark.parametrize(("names", "at_once"), [(("a", "b"), 1), (("a",), 8)])
def test_without_company_there_is_no_other_thread(names: tuple[str, ...], at_once: int) -> None:
    threads: list[threading.Thread] = []

    def open_one(bundle: Path) -> Opened:
        threads.append(threading.current_thread())
        return opened_or_refused(bundle)

    assert len(list(open_all(open_one, paths(*names), at_once))) == len(names)
    assert set(threads) == {threading.current_thread()}
