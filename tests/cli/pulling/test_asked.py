"""What is a model to be made, what is a bundle as it is, and when the same words mean another one."""

import os
from pathlib import Path

import pytest

from cli.pulling.asked import Asked, asked_of
from model.errors import CheckpointError
from tests.app.color_bundle import color_spec, write_bundle

NAME = "timm:mixer_b16_224.goog_in21k"


@pytest.mark.parametrize("name", [NAME, f"{NAME}@v2", "google:gsam/Mixer-S_8", "hf-hub:someone/mixer@refs/pr/1"])
def test_a_name_of_public_weights_is_asked_for_as_it_is(name: str) -> None:
    assert asked_of(Path(name)) == Asked(name)


def test_bundles_folders_of_them_and_nothing_are_left_as_they_are(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "colours", color_spec())
    for path in (bundle, bundle / "fp32.onnx", tmp_path, tmp_path / "nothing", tmp_path / "no.npz"):
        assert asked_of(path) is None


@pytest.mark.parametrize("name", ["a.npz", "b.safetensors", "c.PTH"])
def test_a_file_of_weights_is_made_into_a_bundle(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert asked_of(Path(name)) == Asked(str(tmp_path / name)), "wherever it is asked for from"


def test_a_checkpoint_is_made_into_one_too(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    assert asked_of(tmp_path) is None, "it has no weights"
    (tmp_path / "model.safetensors").touch()
    assert asked_of(tmp_path) == Asked(str(tmp_path))


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("mixer_b16_224", "timm:mixer_b16_224.goog_in21k_ft_in1k"),
        ("timm:mixer_b16", "timm:mixer_b16_224.goog_in21k_ft_in1k"),
        ("https://huggingface.co/someone/mixer", "is an address; expected the name hf-hub:someone/mixer."),
    ],
)
def test_what_is_nearly_a_name_is_told_the_name(words: str, meant: str) -> None:
    with pytest.raises(CheckpointError, match=meant):
        asked_of(Path(words))


# --- keys ---


def test_a_key_can_name_a_file() -> None:
    key = Asked("hf-hub:someone/mixer@refs/pr/1").key
    assert "/" not in key
    assert key.startswith("hf-hub-someone-mixer-refs-pr-1-")


def test_a_key_of_a_path_in_any_script_is_short_enough_for_a_file() -> None:
    key = Asked("/models/" + "\u6a21" * 80 + ".npz").key
    assert len(f".making-{key}.json".encode()) < 255
    assert key != Asked("/models/" + "\u578b" * 80 + ".npz").key


def test_labels_and_revisions_have_keys_of_their_own() -> None:
    asked = [Asked(NAME), Asked(f"{NAME}@v2"), Asked(NAME, ("a", "b")), Asked(NAME, ("b", "a"))]
    assert len({one.key for one in asked}) == 4
    assert Asked(NAME).key == Asked(NAME).key


def test_a_file_that_is_written_again_has_another_key(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"1")
    os.utime(path, ns=(1, 1))
    before = Asked(str(path)).key
    assert Asked(str(path)).key == before
    os.utime(path, ns=(1, 2))
    assert Asked(str(path)).key != before


def test_a_checkpoint_of_which_the_best_epoch_is_written_again_has_another_key(tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    for folder in (tmp_path, tmp_path / "best"):
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"1")
    before = Asked(str(tmp_path)).key
    (tmp_path / "best" / "model.safetensors").write_bytes(b"12")
    assert Asked(str(tmp_path)).key != before
