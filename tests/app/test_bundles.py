"""Which bundles a path names, whether one has changed, and that opening one says what it looked like."""

import os
import shutil
from pathlib import Path

import pytest
from colour_bundle import BLUE, colour_spec, picture, write_bundle
from typer.testing import CliRunner

from app import cli
from app.bundles import find_bundles, is_one, open_bundle, state_of
from app.engine import EngineOptions
from app.errors import EngineError

SPEC = colour_spec()


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


@pytest.mark.parametrize("name", ["", "missing"])
def test_where_there_is_none_it_says_what_was_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"has no fp32\.onnx, fp16\.onnx or int8\.onnx\."):
        find_bundles(tmp_path / name)


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
    options = EngineOptions(tmp_path / "another", provider="cpu", lanes=1, max_batch_size=2)
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
    write_bundle(tmp_path / "bundles" / "greys", colour_spec(channels=1))
    (tmp_path / "blue.png").write_bytes(picture(BLUE))
    environment = {"MIXER_DEFAULT_MODEL": default, "MIXER_LANES": "1"}
    arguments = ["classify", str(tmp_path / "blue.png"), "--bundle", str(tmp_path / "bundles")]
    finished = CliRunner().invoke(cli.app, arguments, env=environment)
    assert finished.exit_code == 0
    assert f": {label} " in finished.stdout
