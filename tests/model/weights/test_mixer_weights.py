"""Weights of foreign layouts by our names. What can be wrong with such a file, tests/model/network/test_zoo.py has."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from model.errors import CheckpointError
from model.weights.config import tensor_shapes
from model.weights.layouts import GOOGLE, TIMM
from model.weights.mixer_weights import TORCH_SUFFIXES, own_weights, read_weights
from model.weights.tensor_file import held
from tests.model.toys import toy_config

VECTORS = Path(__file__).parents[2] / "vectors"
PATH = Path("file")


@pytest.mark.parametrize(("file", "layout"), [("google_tiny.npz", GOOGLE), ("timm_tiny.safetensors", TIMM)])
def test_every_tensor_has_the_name_and_the_shape_that_follow_from_the_sizes(file: str, layout: object):
    weights, found = read_weights(VECTORS / file)
    assert found is layout
    assert [(name, tensor.shape) for name, tensor in weights.tensors.items()] == list(tensor_shapes(weights.config))
    for tensor in weights.tensors.values():
        assert tensor.read().shape == tensor.shape


def test_another_scale_of_the_input_changes_nothing_else():
    weights, _ = read_weights(VECTORS / "timm_tiny.safetensors")
    scaled = weights.prepared((0.0,), (255.0,), "erf")
    assert (scaled.config.pixel_mean, scaled.config.pixel_std) == ((0.0,), (255.0,))
    assert scaled.tensors is weights.tensors


@pytest.mark.parametrize("suffix", TORCH_SUFFIXES)
def test_a_file_of_torch_save_is_told_to_need_torch(tmp_path: Path, suffix: str):
    path = tmp_path / f"weights{suffix}"
    path.touch()
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert (
        str(caught.value) == f"{path} is a file of torch.save, which only torch reads; expected .npz or .safetensors."
    )


def test_our_own_tensors_are_checked_against_the_sizes():
    config = toy_config()
    tensors = {name: held(np.zeros(shape, np.float32)) for name, shape in tensor_shapes(config)}
    assert own_weights(PATH, config, tensors).tensors is tensors
    with pytest.raises(CheckpointError, match=r"file lacks the tensor 'head.bias' of the checkpoint layout"):
        own_weights(PATH, config, {name: tensor for name, tensor in tensors.items() if name != "head.bias"})
    with pytest.raises(CheckpointError, match=r"file has the tensor 'extra', which the checkpoint layout does not"):
        own_weights(PATH, config, {**tensors, "extra": tensors["head.bias"]})
    with pytest.raises(CheckpointError, match=r"file: the tensor 'head.bias' is \(9,\); expected \("):
        own_weights(PATH, config, {**tensors, "head.bias": held(np.zeros(9, np.float32))})


def test_more_blocks_than_tensors_are_refused_before_anything_is_made_of_them():
    tensors = {"stem.weight": held(np.zeros((16, 16), np.float32))}
    with pytest.raises(CheckpointError, match=r"file has 1 tensors; expected those of 1000000000 blocks\."):
        own_weights(PATH, toy_config(num_blocks=10**9), tensors)


def test_a_number_of_patches_below_zero_is_no_square(tmp_path: Path):
    tensors = dict(np.load(VECTORS / "google_tiny.npz"))
    kernel = "MixerBlock_0/token_mixing/Dense_0/kernel"
    with zipfile.ZipFile(tmp_path / "file.npz", "w") as archive:
        for name, tensor in tensors.items():
            with archive.open(f"{name}.npy", "w") as file:
                if name == kernel:
                    np.lib.format.write_array_header_1_0(
                        file, {"descr": "<f4", "fortran_order": False, "shape": (-16, 24)}
                    )
                else:
                    np.save(file, tensor)
    with pytest.raises(CheckpointError, match=r"file\.npz mixes -16 patches; expected a square number"):
        read_weights(tmp_path / "file.npz")
