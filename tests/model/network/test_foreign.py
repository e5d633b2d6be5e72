"""A foreign file, its spec, and the checkpoint folder made of it. test_zoo.py has what can be wrong with one."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from model.errors import CheckpointError
from model.hubs import names
from model.hubs.remote import Remote
from model.network import checkpoint, foreign, zoo
from model.spec import Fit, ModelSpec, Source

VECTORS = Path(__file__).parents[2] / "vectors"
FILES = ["google_tiny.npz", "timm_tiny.safetensors"]


@pytest.mark.parametrize("file", FILES)
def test_it_is_what_torch_gets(file: str):
    found, expected = foreign.read(VECTORS / file), zoo.read(VECTORS / file)
    assert found.spec == expected.spec
    assert found.weights.config == expected.model.config
    for name, tensor in expected.model.state_dict().items():
        np.testing.assert_array_equal(found.weights.tensors[name].read(), tensor.numpy())


def test_a_name_says_how_the_input_is_scaled():
    remote = names.find("timm:mixer_b16_224.miil_in21k", {})
    found = foreign.read(VECTORS / "timm_tiny.safetensors", tuple("abcdefg"), remote)
    assert (found.weights.config.pixel_mean, found.weights.config.pixel_std) == ((0.0,), (255.0,))
    assert (found.spec.interpolation, found.spec.labels) == ("bilinear", tuple("abcdefg"))
    assert found.spec.fit == Fit(mode="crop", crop_percentage=0.875)


def own(**changes: object) -> Remote:
    """A repository with a spec of this project's beside the tiny network."""
    config = foreign.read(VECTORS / "timm_tiny.safetensors").weights.config
    fields = {
        **{name: getattr(config, name) for name in ("image_size", "patch_size", "channels", "num_classes")},
        "name": "pets",
        "labels": tuple("abcdefg"),
        "temperature": 1.7,
        "source": Source(origin="photographs"),
    }
    return Remote("https://hub.test/a", "a.safetensors", spec=ModelSpec.model_validate({**fields, **changes}))


def test_a_spec_beside_the_weights_is_kept_and_labels_may_be_others():
    remote = own()
    assert foreign.read(VECTORS / "timm_tiny.safetensors", None, remote).spec == remote.spec
    others = foreign.read(VECTORS / "timm_tiny.safetensors", tuple("hijklmn"), remote).spec
    assert (others.labels, others.temperature) == (tuple("hijklmn"), 1.7)


def test_a_spec_of_another_network_is_refused():
    remote = own(num_classes=2, labels=("a", "b"))
    with pytest.raises(CheckpointError, match="has num_classes 7; expected 2, as the spec beside it has"):
        foreign.read(VECTORS / "timm_tiny.safetensors", None, remote)


@pytest.mark.parametrize("file", FILES)
def test_it_is_saved_as_torch_would_save_it(file: str, tmp_path: Path):
    foreign.save(foreign.read(VECTORS / file), tmp_path / "ours")
    checkpoint.save(zoo.read(VECTORS / file), tmp_path / "torchs")
    ours, torchs = checkpoint.load(tmp_path / "ours"), checkpoint.load(tmp_path / "torchs")
    assert (tmp_path / "ours" / "config.json").read_bytes() == (tmp_path / "torchs" / "config.json").read_bytes()
    for name, tensor in torchs.model.state_dict().items():
        np.testing.assert_array_equal(ours.model.state_dict()[name].numpy(), tensor.numpy())


def test_the_password_of_a_mirror_is_not_kept_with_the_weights():
    remote = names.find("google:gsam/Mixer-S_8", {names.GOOGLE_VARIABLE: "https://user:password@mirror.test/models"})
    origin = foreign.read(VECTORS / "google_tiny.npz", None, remote).spec.source.origin
    assert origin == "https://mirror.test/models/gsam/Mixer-S_8.npz"


def test_a_file_whose_name_is_no_text_is_named(tmp_path: Path):
    path = shutil.copy(VECTORS / "google_tiny.npz", tmp_path / "mixer\udcff.npz")
    with pytest.raises(CheckpointError, match="cannot be described: 1 validation error for ModelSpec name Input"):
        foreign.read(path)
