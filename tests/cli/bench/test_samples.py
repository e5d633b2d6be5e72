"""Pictures to measure with: like those that a service gets, the same ones every time, or one's own."""

import io
from pathlib import Path

import pytest
from PIL import Image

from app.errors import BadImage, BadSettings
from cli.bench.samples import generated, read
from tests.app.color_bundle import RED, image


def opened(payload: bytes) -> Image.Image:
    return Image.open(io.BytesIO(payload))


def test_a_large_model_gets_photographs() -> None:
    samples = generated(224, 3)
    assert samples.description == "500x375 JPEG, generated"
    assert {(opened(file).format, opened(file).size, opened(file).mode) for file in samples.files} == {
        ("JPEG", (500, 375), "RGB")
    }


def test_a_photograph_has_the_detail_of_one() -> None:
    """A plain colour would be decoded in no time: photographs of this size take 30 to 120 KB."""
    assert 30_000 < generated(224, 3).mean_bytes < 120_000


@pytest.mark.parametrize(("channels", "mode", "word"), [(1, "L", "grey"), (3, "RGB", "color")])
def test_a_small_model_gets_png_files_of_its_own_size(channels: int, mode: str, word: str) -> None:
    samples = generated(28, channels)
    assert samples.description == f"28x28 {word} PNG, generated"
    for file in samples.files:
        assert (opened(file).format, opened(file).size, opened(file).mode) == ("PNG", (28, 28), mode)


def test_the_pictures_differ_from_each_other_and_are_the_same_every_time() -> None:
    first, second = generated(32, 3), generated(32, 3)
    assert first == second
    assert len(set(first.files)) == len(first.files) == 8
    assert first.mean_bytes == round(sum(map(len, first.files)) / 8)


def expect_red(payload: bytes) -> None:
    if not payload.startswith(b"\x89PNG"):
        raise BadImage("not red")


def test_ones_own_pictures_are_read_from_all_folders_below_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    files = [image(RED, size=(size, size)) for size in (4, 5)]
    (tmp_path / "b" / "first.png").write_bytes(files[0])
    (tmp_path / "c.png").write_bytes(files[1])
    (tmp_path / "notes.txt").write_text("no picture")
    samples = read(tmp_path, expect_red)
    assert samples.files == tuple(files)
    assert samples.description == f"2 from {tmp_path}"


def test_a_large_folder_is_not_read_to_its_end(tmp_path: Path) -> None:
    for index in range(260):
        (tmp_path / f"{index:03}.png").write_bytes(image(RED))
    assert len(read(tmp_path, expect_red).files) == 256


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(BadSettings) as caught:
        read(tmp_path, expect_red)
    assert str(caught.value) == f"--pictures is {tmp_path}, which holds no pictures."


def test_what_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as caught:
        read(tmp_path / "nowhere", expect_red)
    assert str(caught.value) == f"--pictures is {tmp_path / 'nowhere'}; expected a folder."
