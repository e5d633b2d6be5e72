"""Class folders that training reads: a person's label wins over the model's."""

from pathlib import Path

import pytest

from app.collection.folder import Folder
from app.collection.picture import ENDINGS, UNKNOWN
from cli.collected.class_folders import folder_name, write
from model.data.scan import IMAGE_SUFFIXES
from tests.app.collection.test_folder import record
from tests.app.color_bundle import BLUE, RED, image
from tests.cli.collected.conftest import LIMITS


def test_pictures_lie_under_their_labels_with_their_bytes(kept: Path, tmp_path: Path) -> None:
    assert write(list(Folder(kept, LIMITS).pictures()), tmp_path / "out") == 3
    written = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").glob("*/*")
    }
    assert written == {
        "blue/2025-11-29_a-0.png": image(BLUE),
        "red/2025-11-29_b-0.png": image(RED),
        "red/2025-11-26_old-0.png": image(RED),
    }


def test_bytes_of_no_kind_are_left_out(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "kept", LIMITS)
    folder.make()
    folder.keep(record(folder, picture="abc-0.bin"), b"hello")
    assert write(list(folder.pictures()), tmp_path / "out") == 0


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("dress", "dress"),
        ("long sleeve", "long sleeve"),
        ("T-shirt/top", "T-shirt-top"),
        ("..", "-."),
        ("a\nb", "a-b"),
        ("é" * 101, "é" * 100),
    ],
)
def test_a_label_names_a_folder_and_no_other_place(label: str, name: str) -> None:
    assert folder_name(label) == name


def test_training_reads_files_with_every_other_ending() -> None:
    assert {f".{ending}" for ending in ENDINGS - {UNKNOWN}} <= IMAGE_SUFFIXES
