"""Where an export may write, and what it says of what was there."""

from pathlib import Path

import pytest

from export.target import Earlier, clear_others, expect_bundle_folder, graphs_in
from model.errors import ExportError


def test_a_new_an_empty_and_a_bundles_folder_will_do(tmp_path: Path):
    expect_bundle_folder(tmp_path / "new" / "bundle")
    expect_bundle_folder(tmp_path)
    for name in ("README.md", "LICENSE", ".gitignore"):
        (tmp_path / name).touch()
    expect_bundle_folder(tmp_path)
    (tmp_path / "int8.onnx").touch()
    (tmp_path / "recipe").mkdir()
    expect_bundle_folder(tmp_path)


@pytest.mark.parametrize("name", ["cat/0.jpg", "config.json", "model.onnx", "fp32.onnx/file", "README.md/file"])
def test_a_folder_that_holds_other_things_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(ExportError, match=r"is no bundle and holds .*; expected a new folder, an empty one or"):
        expect_bundle_folder(tmp_path)


def test_of_many_things_some_are_named(tmp_path: Path):
    for index in range(9):
        (tmp_path / f"class{index}").mkdir()
    with pytest.raises(ExportError, match="holds class0, class1, class2, class3, class4 and 4 more; "):
        expect_bundle_folder(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "bundle").touch()
    with pytest.raises(ExportError, match=r"bundle is a file; expected a folder to write the graphs to\.$"):
        expect_bundle_folder(tmp_path / "bundle")


def test_what_was_not_written_again_is_removed(tmp_path: Path):
    for name in ("fp32.onnx", "fp16.onnx", "other.onnx"):
        (tmp_path / name).touch()
    before = tuple(graphs_in(tmp_path))
    earlier = clear_others(tmp_path, ("fp32", "int8"), before)
    assert earlier == Earlier(replaced=(tmp_path / "fp32.onnx",), removed=(tmp_path / "fp16.onnx",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fp32.onnx", "other.onnx"]
