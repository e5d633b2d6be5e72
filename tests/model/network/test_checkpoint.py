import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.errors import CheckpointError
from model.network.checkpoint import Checkpoint, load, save, torch_logits
from model.network.checkpoint_folder import expect_checkpoint_folder, save_spec, write_atomically
from model.spec import Fit
from tests.model.toys import random_mixer, random_pixels, toy_config, toy_spec


def _checkpoint(**changes: Any) -> Checkpoint:
    fields: dict[str, Any] = {
        "model": random_mixer(toy_config(gelu="tanh", pixel_mean=(100.0,), pixel_std=(50.0,))),
        "spec": toy_spec(fit=Fit(mode="pad")),
        "training": {"recipe": {"epochs": 3}},
        "images": random_pixels(3, 8, 8, 1),
    }
    return Checkpoint(**{**fields, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(_checkpoint(), tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def _edit(folder: Path, part: str, **changes: Any) -> None:
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    content[part].update(changes)
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")


# --- what is saved is what is loaded ---


def test_who_may_read_a_new_file_may_read_the_weights(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("")
    assert (folder / "model.safetensors").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_a_checkpoint_survives_a_round_trip(folder: Path) -> None:
    before, after = _checkpoint(), load(folder)
    assert after.model.config == before.model.config
    assert after.spec == before.spec
    assert after.training == before.training
    assert after.images is not None
    np.testing.assert_array_equal(after.images, before.images)
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], tensor)


def test_a_hidden_layer_of_the_head_survives_and_a_config_without_it_is_a_linear_heads(tmp_path: Path) -> None:
    model = random_mixer(toy_config(head_hidden_dim=9))
    save(Checkpoint(model, toy_spec()), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model"]["head_hidden_dim"] == 9
    pixels = random_pixels(3, 8, 8, 1)
    found = torch_logits(load(tmp_path).model, pixels)
    np.testing.assert_array_equal(found, torch_logits(model, pixels))
    linear = Checkpoint(random_mixer(toy_config()), toy_spec())
    save(linear, tmp_path / "linear")
    assert "head_hidden_dim" not in (tmp_path / "linear" / "config.json").read_text()
    assert load(tmp_path / "linear").model.config.head_hidden_dim == 0


def test_a_loaded_model_evaluates_and_gives_the_same_logits(folder: Path) -> None:
    model = load(folder).model
    assert not model.training
    pixels = random_pixels(4, 8, 8, 1)
    np.testing.assert_array_equal(torch_logits(model, pixels), torch_logits(_checkpoint().model, pixels))


def test_colour_pictures_survive_too(tmp_path: Path) -> None:
    images = random_pixels(2, 8, 8, 3)
    model = random_mixer(toy_config(channels=3))
    save(_checkpoint(model=model, spec=toy_spec(channels=3), images=images), tmp_path)
    np.testing.assert_array_equal(load(tmp_path).images, images)


def test_a_new_spec_changes_nothing_else(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "config.json"}
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    spec = toy_spec(temperature=1.5, energy_threshold=2.25)
    save_spec(spec, folder)
    assert load(folder).spec == spec
    changed = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert {**changed, "spec": content["spec"]} == content
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "pictures"]


def test_a_spec_that_cannot_be_written_names_the_config(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json cannot be written"):
        save_spec(toy_spec(), tmp_path)


def test_pictures_are_optional(tmp_path: Path) -> None:
    save(_checkpoint(images=None), tmp_path)
    assert load(tmp_path).images is None


@pytest.mark.parametrize("count", [None, 1])
def test_no_picture_of_an_older_checkpoint_is_left(folder: Path, count: int | None) -> None:
    images = None if count is None else random_pixels(count, 8, 8, 1, seed=9)
    save(_checkpoint(images=images), folder)
    after = load(folder).images
    assert (None if after is None else after.tolist()) == (None if images is None else images.tolist())


def test_the_folder_holds_weights_config_and_pictures_only(folder: Path) -> None:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    images = ["pictures/0000.png", "pictures/0001.png", "pictures/0002.png"]
    assert names == ["config.json", "model.safetensors", "pictures", *images]


# --- broken folders ---


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none does not exist; expected a checkpoint folder\.$"):
        load(tmp_path / "none")


def test_the_checkpoint_in_a_folder_that_is_none_is_named(folder: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(folder.parent)
    assert str(caught.value) == f"{folder.parent} has no config.json; expected a checkpoint folder, such as {folder}."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("timm:mixer_b16_224.goog_in21k", "timm:mixer_b16_224.goog_in21k stands for public weights"),
        ("mixer_b16_224", "mixer_b16_224 stands for public weights"),
        ("https://models.test/x", "https://models.test/x stands for public weights"),
        ("my weights.safetensors", "my weights.safetensors is a file of weights"),
    ],
)
def test_weights_that_are_no_checkpoint_yet_are_told_the_command_that_makes_one(given: str, said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(Path(given))
    command = f"mixer import {shlex.quote(said.partition(' stands')[0].partition(' is a')[0])} CHECKPOINT"
    assert str(caught.value) == f"{said}; expected a checkpoint folder, as {command} makes of them."


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model."])
def test_a_prefix_of_the_tensors_is_taken_off(folder: Path, prefix: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    for name, tensor in load(folder).model.state_dict().items():
        assert torch.equal(tensor, tensors[name])


# --- where a checkpoint may be written ---


def test_a_new_folder_an_empty_one_and_a_checkpoint_may_be_written_to(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for allowed in (tmp_path / "new", tmp_path / "empty", folder):
        expect_checkpoint_folder(allowed)


def test_a_checkpoint_is_not_written_among_other_things(tmp_path: Path) -> None:
    (tmp_path / "photos" / "pictures").mkdir(parents=True)
    with pytest.raises(
        CheckpointError,
        match=r"photos is no checkpoint and holds pictures; expected a new folder",
    ):
        expect_checkpoint_folder(tmp_path / "photos")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file is a file; expected a folder"):
        expect_checkpoint_folder(tmp_path / "file")


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}", '{"model": {}}', '{"model": {"image_size": 8}}'])
def test_a_config_that_is_none_is_named(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"checkpoint/config.json is not a checkpoint's config"):
        load(folder)


def test_a_config_that_is_not_text_is_named(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(CheckpointError, match=r"checkpoint/config.json is not a checkpoint's config"):
        load(folder)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("model", {"hidden_dim": "wide"}, "hidden_dim"),
        ("model", {"patch_size": 3}, "image_size is 8; expected a multiple of patch_size 3"),
        ("spec", {"labels": ["one"]}, "labels has 1 entries; expected num_classes 2"),
        ("spec", {"temperature": -1}, "temperature"),
    ],
)
def test_a_setting_of_the_config_that_cannot_be_is_named(
    folder: Path, part: str, changes: dict[str, Any], message: str
) -> None:
    _edit(folder, part, **changes)
    with pytest.raises(CheckpointError, match=f"checkpoint/config.json is not a checkpoint's config: .*{message}"):
        load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 12},
        {"patch_size": 2},
        {"channels": 3},
        {"num_classes": 3, "labels": ["a", "b", "c"]},
    ],
)
def test_a_spec_that_is_of_another_network_is_named(folder: Path, changes: dict[str, Any]) -> None:
    _edit(folder, "spec", **changes)
    with pytest.raises(CheckpointError, match=f"checkpoint/config.json .*{next(iter(changes))}"):
        load(folder)


def test_weights_that_are_missing_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors does not hold this network's weights: No such file"):
        load(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_weights_that_are_cut_short_are_named(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model.safetensors does not hold this network's weights"):
        load(folder)


def test_weights_of_another_network_are_named_with_the_tensor(folder: Path) -> None:
    _edit(folder, "model", hidden_dim=20)
    with pytest.raises(CheckpointError, match=r"model.safetensors does not hold .*stem.weight"):
        load(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["head.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model.safetensors does not hold .*head.bias"):
        load(folder)


@pytest.mark.parametrize("kept", [0, 20, 60])
def test_a_broken_picture_names_the_pictures(folder: Path, kept: int) -> None:
    path = folder / "pictures" / "0001.png"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="pictures holds a picture that cannot be read"):
        load(folder)


def test_pictures_of_several_sizes_are_an_error(folder: Path) -> None:
    save(_checkpoint(images=random_pixels(1, 4, 4, 1)), folder)
    (folder / "pictures" / "0001.png").write_bytes((folder / "pictures" / "0000.png").read_bytes())
    save(_checkpoint(images=random_pixels(1, 8, 8, 1)), folder.parent / "other")
    (folder / "pictures" / "0000.png").write_bytes((folder.parent / "other/pictures/0000.png").read_bytes())
    with pytest.raises(CheckpointError, match="pictures holds a picture that cannot be read"):
        load(folder)


# --- writing ---


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/checkpoint cannot be written: .*Not a directory"):
        save(_checkpoint(), tmp_path / "file" / "checkpoint")


def test_weights_that_cannot_be_put_in_place_are_an_error_that_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors" / "full").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(_checkpoint(), tmp_path)


def test_an_atomic_write_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")
    write_atomically(path, lambda partial: partial.write_text("new", encoding="utf-8"))
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("interruption", [OSError("full"), KeyboardInterrupt()])
def test_a_writer_that_fails_half_way_leaves_the_old_file_alone(tmp_path: Path, interruption: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")

    def fail_half_way(partial: Path) -> None:
        partial.write_text("ne", encoding="utf-8")
        raise interruption

    with pytest.raises(type(interruption)):
        write_atomically(path, fail_half_way)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")
    seen = []

    def write(partial: Path) -> None:
        partial.write_text("new", encoding="utf-8")
        seen.append(path.read_text(encoding="utf-8"))

    write_atomically(path, write)
    assert seen == ["old"]


# --- running ---


def test_torch_logits_are_the_models() -> None:
    model, pixels = random_mixer(toy_config()), random_pixels(5, 8, 8, 1)
    logits = torch_logits(model, pixels)
    assert (logits.shape, logits.dtype) == ((5, 2), np.float32)
    np.testing.assert_array_equal(logits, model(torch.from_numpy(pixels)).detach().numpy())


@pytest.mark.parametrize("kind", ["strided", "read-only"])
def test_torch_logits_take_any_array(kind: str) -> None:
    model, pixels = random_mixer(toy_config()), random_pixels(4, 8, 8, 1)
    awkward = np.repeat(pixels, 2, axis=0)[::2] if kind == "strided" else pixels.copy()
    awkward.flags.writeable = kind == "strided"
    np.testing.assert_array_equal(torch_logits(model, awkward), torch_logits(model, pixels))


def test_blocks_that_a_config_claims_are_not_made_before_they_are_counted(tmp_path: Path):
    save(_checkpoint(), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["model"]["num_blocks"] = 10**9
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(
        CheckpointError, match=r"model.safetensors has \d+ tensors; expected those of 1000000000 blocks"
    ):
        load(tmp_path)
