import numpy as np
import pytest
import torch

from model.errors import CheckpointError
from model.network.mixer import MlpMixer
from model.network.transfer import at_resolution, with_new_head
from model.preprocess import patchify
from tests.model.toys import random_pixels, toy_config


@pytest.fixture
def model() -> MlpMixer:
    torch.manual_seed(3)
    network = MlpMixer(toy_config(image_size=12, patch_size=4)).eval()
    for parameter in network.parameters():  # biases and head too: nothing may be right by being zero
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def _pre_logits(network: MlpMixer, pixels: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return network.eval().embed(torch.from_numpy(patchify(pixels, network.config.patch_size)))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_pre_logits_of_a_mosaic_are_the_mean_of_those_of_its_pictures(model: MlpMixer, factor: int) -> None:
    channels = model.config.channels
    tiles = random_pixels(factor * factor, 12, 12, channels).reshape(factor, factor, 12, 12, channels)
    mosaic = tiles.swapaxes(1, 2).reshape(1, 12 * factor, 12 * factor, channels)
    small = _pre_logits(model, tiles.reshape(-1, 12, 12, channels)).mean(dim=0, keepdim=True)
    assert (_pre_logits(at_resolution(model, 12 * factor), mosaic) - small).abs().max() < 1e-5


def test_the_token_mixing_mlp_grows_with_the_number_of_tiles(model: MlpMixer) -> None:
    grown = at_resolution(model, 24).config
    assert (grown.image_size, grown.num_patches) == (24, 4 * model.config.num_patches)
    assert grown.tokens_mlp_dim == 4 * model.config.tokens_mlp_dim


def test_a_head_with_a_hidden_layer_is_given_up_with_it_and_kept_by_a_higher_resolution(model: MlpMixer) -> None:
    deep = with_new_head(model, 5, head_hidden_dim=7)
    assert (deep.head_hidden.weight.shape, deep.head.weight.shape) == ((7, 16), (5, 7))
    torch.nn.init.normal_(deep.head.weight)
    plain = np.full((1, 24, 24, model.config.channels), 90, dtype=np.uint8)
    with torch.inference_mode():
        small = deep.eval()(torch.from_numpy(plain[:, :12, :12].copy()))
        large = at_resolution(deep, 24).eval()(torch.from_numpy(plain))
    assert (small - large).abs().max() < 1e-5
    assert small.abs().max() > 1e-3
    linear = with_new_head(deep, 3)
    assert linear.config.head_hidden_dim == 0
    assert linear.state_dict().keys() == model.state_dict().keys()


def test_tiles_do_not_speak_to_each_other_at_first(model: MlpMixer) -> None:
    """A change in one tile changes only its own share of the mean."""
    mosaic = random_pixels(1, 24, 24, model.config.channels)
    changed = mosaic.copy()
    changed[:, 12:, :12] = 255 - changed[:, 12:, :12]
    moved = _pre_logits(at_resolution(model, 24), changed) - _pre_logits(at_resolution(model, 24), mosaic)
    alone = _pre_logits(model, changed[:, 12:, :12]) - _pre_logits(model, mosaic[:, 12:, :12])
    assert (moved - alone / 4).abs().max() < 1e-5
    assert moved.abs().max() > 1e-3


def test_the_logits_of_a_plain_picture_do_not_change_with_resolution(model: MlpMixer) -> None:
    plain = np.full((1, 24, 24, model.config.channels), 90, dtype=np.uint8)
    with torch.inference_mode():
        small, large = (
            model(torch.from_numpy(plain[:, :12, :12].copy())),
            at_resolution(model, 24)(torch.from_numpy(plain)),
        )
    assert (small - large).abs().max() < 1e-5


@pytest.mark.parametrize("image_size", [6, 18, 13])
def test_a_size_that_is_no_multiple_is_refused(model: MlpMixer, image_size: int) -> None:
    with pytest.raises(
        CheckpointError, match=f"image_size is {image_size}; expected a multiple of the checkpoint's 12"
    ):
        at_resolution(model, image_size)


def test_a_new_head_is_zero_and_the_rest_is_kept(model: MlpMixer) -> None:
    renewed = with_new_head(model, 9)
    pixels = random_pixels(3, 12, 12, model.config.channels)
    assert torch.equal(_pre_logits(renewed, pixels), _pre_logits(model, pixels))
    with torch.inference_mode():
        assert torch.equal(renewed(torch.from_numpy(pixels)), torch.zeros(3, 9))
