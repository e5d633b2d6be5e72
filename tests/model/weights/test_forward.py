"""The forward pass in NumPy gives what two reference implementations, torch and mathematics give."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.network.checkpoint import torch_logits
from model.network.mixer import MlpMixer
from model.weights.config import GeluFlavour
from model.weights.forward import GELU, erf, forward
from model.weights.mixer_weights import MixerWeights, read_weights
from model.weights.tensor_file import held
from tests import numpy_mixer
from tests.model.toys import random_mixer, random_pixels, toy_config

VECTORS = Path(__file__).parents[2] / "vectors"


def weights_of(model: MlpMixer) -> MixerWeights:
    return MixerWeights(model.config, {name: held(tensor.numpy()) for name, tensor in model.state_dict().items()})


@pytest.mark.parametrize("file", ["google_tiny.npz", "timm_tiny.safetensors"])
def test_logits_are_those_of_the_reference_implementations(file: str):
    reference = np.load(VECTORS / f"{file.partition('.')[0]}_io.npz")
    logits = forward(read_weights(VECTORS / file)[0], reference["pixels"])
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, reference["logits"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("channels", "head_hidden_dim"), [(1, 0), (3, 0), (3, 11)])
@pytest.mark.parametrize("gelu", ["erf", "tanh"])
def test_logits_are_torchs_whatever_the_sizes_and_the_scale_of_the_input(
    channels: int, head_hidden_dim: int, gelu: GeluFlavour
):
    scale = {"pixel_mean": (90.0, 100.0, 110.0)[:channels], "pixel_std": (40.0, 50.0, 60.0)[:channels]}
    config = toy_config(image_size=15, patch_size=5, hidden_dim=12, tokens_mlp_dim=7, channels=channels, gelu=gelu)
    model = random_mixer(replace(config, head_hidden_dim=head_hidden_dim, **scale))
    pixels = random_pixels(5, 15, 15, channels)
    expected = torch_logits(model, pixels)
    found = forward(weights_of(model), pixels[:, ::-1][:, ::-1])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * float(np.ptp(expected)))


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_rows_that_are_taken_in_blocks_are_the_same(rows: int):
    weights, reference = read_weights(VECTORS / "google_tiny.npz")[0], np.load(VECTORS / "google_tiny_io.npz")
    logits = forward(weights, reference["pixels"], hidden_bytes=4 * rows * weights.config.channels_mlp_dim)
    np.testing.assert_allclose(logits, reference["logits"], rtol=0, atol=1e-6)


def test_the_error_function_is_that_of_the_standard_library():
    values = np.concatenate([np.linspace(-8, 8, 4001), [-np.inf, -0.0, 0.0, np.inf]]).astype(np.float32)
    np.testing.assert_allclose(erf(values), [math.erf(value) for value in values], rtol=0, atol=4e-7)
    assert np.isnan(erf(np.array([np.nan], np.float32))).all()


@pytest.mark.parametrize("flavour", ["erf", "tanh"])
def test_gelu_is_that_of_float64(flavour: GeluFlavour):
    values = np.linspace(-9, 9, 2001).astype(np.float32)
    expected = {"erf": numpy_mixer._erf_gelu, "tanh": numpy_mixer._tanh_gelu}[flavour](values.astype(np.float64))
    before = values.copy()
    np.testing.assert_allclose(GELU[flavour](values), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(values, before)
