"""What a run chooses by its pictures, and what it leaves to the flags."""

from pathlib import Path

import pytest

from model.recipe import RECIPES
from model.training.options import TrainOptions
from model.training.start.choices import default_start, median_side, told, with_sizes, with_start
from tests.model.toys import random_pixels, toy_config, write_idx, write_image

pytestmark = pytest.mark.timeout(60)


def photographs(folder: Path, width: int, height: int, count: int = 3) -> Path:
    for index in range(count):
        write_image(folder / "cat" / f"{index}.png", random_pixels(height, width, 3))
    return folder


@pytest.mark.parametrize(
    ("width", "height", "sizes"),
    [(32, 32, (32, 4)), (28, 20, (28, 4)), (30, 18, (28, 4)), (41, 41, (64, 8)), (200, 30, (64, 8)), (8, 8, (64, 8))],
)
def test_small_pictures_are_seen_as_they_are(tmp_path: Path, width: int, height: int, sizes: tuple[int, int]):
    data = photographs(tmp_path / "data", width, height)
    chosen = with_sizes(TrainOptions(data=data, out=tmp_path / "out"))
    assert (chosen.image_size, chosen.patch_size) == sizes


def test_idx_files_hold_pictures_of_28_pixels(tmp_path: Path):
    write_idx(tmp_path, "train", random_pixels(4, 28, 28), [0, 1, 0, 1])
    assert with_sizes(TrainOptions(data=tmp_path, out=tmp_path / "out")).image_size == 28


@pytest.mark.parametrize("given", [{"image_size": 64}, {"patch_size": 16}, {"init": "checkpoint"}])
def test_sizes_that_are_given_or_a_checkpoints_stay(tmp_path: Path, given: dict[str, object]):
    options = TrainOptions(data=photographs(tmp_path / "data", 32, 32), out=tmp_path / "out", **given)  # type: ignore[arg-type]
    assert with_sizes(options) is options


def test_files_that_cannot_be_read_say_nothing_of_sizes(tmp_path: Path):
    data = photographs(tmp_path / "data", 32, 32)
    for index in range(9):
        (data / "cat" / f"broken-{index}.png").write_bytes(b"")
    assert median_side(data) == 32
    assert median_side(tmp_path / "data" / "dog") is None


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "bundle" / "checkpoint").mkdir(parents=True)
    return tmp_path / "bundle"


def test_few_photographs_begin_with_a_network_that_knows_photographs(tmp_path: Path, bundle: Path):
    options = TrainOptions(data=photographs(tmp_path / "data", 100, 80), out=tmp_path / "out")
    chosen = with_start(options, bundle)
    assert (chosen.freeze, chosen.init) == (True, str(bundle))
    (bundle / "checkpoint").rmdir()
    assert with_start(options, bundle) is options


def test_the_bundle_that_ships_is_found_from_wherever_a_run_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = Path(__file__).resolve().parents[4]
    monkeypatch.chdir(root)
    assert default_start() == Path("bundles/clothes")
    monkeypatch.chdir(tmp_path)
    assert default_start() == root / "bundles" / "clothes"
    options = TrainOptions(data=photographs(tmp_path / "data", 100, 80), out=tmp_path / "out")
    assert with_start(options).init == str(root / "bundles" / "clothes")


@pytest.mark.parametrize(
    "given", [{"recipe": "small"}, {"init": "checkpoint"}, {"image_size": 32}, {"epochs": 3}, {"hidden_dim": 64}]
)
def test_a_flag_that_says_how_to_train_is_followed(tmp_path: Path, bundle: Path, given: dict[str, object]):
    options = TrainOptions(data=photographs(tmp_path / "data", 100, 80), out=tmp_path / "out", **given)  # type: ignore[arg-type]
    assert with_start(options, bundle) is options


def test_small_pictures_and_many_pictures_are_trained_on_from_random_weights(tmp_path: Path, bundle: Path):
    small = TrainOptions(data=photographs(tmp_path / "small", 32, 32), out=tmp_path / "out")
    assert with_start(small, bundle) is small
    many = photographs(tmp_path / "many", 48, 48, count=1)
    for index in range(999):
        (many / "cat" / f"copy-{index}.png").write_bytes((many / "cat" / "0.png").read_bytes())
    options = TrainOptions(data=many, out=tmp_path / "out")
    assert with_start(options, bundle) is options


def test_what_was_chosen_is_told_with_the_flags_that_choose_otherwise(tmp_path: Path):
    options = TrainOptions(data=tmp_path, out=tmp_path / "out")
    recipe = RECIPES["small"].model_copy(update={"patience": 15, "balance": 0.5})
    rows = dict(told(options, recipe, toy_config(), 200.0))
    assert rows["start"].startswith("random weights; --init MODEL")
    assert rows["network"] == "8 pixels in patches of 4 (--image-size, --patch-size), 0.00 million parameters"
    assert rows["recipe"] == "adamw, rate 0.001, batches of 128"
    assert rows["epochs"] == "60; ends after 15 without a better validation loss or accuracy (--patience)"
    assert rows["classes"].endswith("to the power of 0.5 (--balance)")
    assert rows["time"] == "about 3 min, by a few steps on this machine"
    assert dict(told(options, recipe, toy_config(), 7200.0))["time"].endswith(
        "--freeze trains a head alone, in minutes"
    )
    assert "time" not in dict(told(options, recipe, toy_config(), None))
