import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.network.mixer import MlpBlock, MlpMixer, num_parameters, stochastic_depth
from model.preprocess import patchify
from model.weights.config import VARIANTS, variant_name
from tests.model.toys import random_mixer, random_pixels, toy_config

GOLDEN_PARAMETERS = {  # at 224x224, 3 channels, 1000 classes
    "S/32": 19_104_624,
    "S/16": 18_528_264,
    "B/32": 60_293_428,
    "B/16": 59_880_472,
    "L/32": 206_939_264,
    "L/16": 208_196_168,
    "H/14": 432_350_952,
}
COLOR = toy_config(channels=3, num_classes=5)


# --- sizes ---


def test_every_variant_has_a_golden_number() -> None:
    assert set(VARIANTS) == set(GOLDEN_PARAMETERS)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_exactly_the_papers_parameters(name: str) -> None:
    assert num_parameters(VARIANTS[name]) == GOLDEN_PARAMETERS[name]


def test_num_parameters_counts_what_a_built_mixer_trains() -> None:
    assert num_parameters(COLOR) == sum(parameter.numel() for parameter in MlpMixer(COLOR).parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_recognised_by_its_sizes(name: str) -> None:
    assert variant_name(VARIANTS[name]) == name


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_the_gelu_of_the_papers_code(name: str) -> None:
    assert VARIANTS[name].gelu == "tanh"


def test_other_sizes_are_custom() -> None:
    assert variant_name(toy_config()) == "custom"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 0}, "image_size is 0; expected at least 1."),
        ({"patch_size": 0}, "patch_size is 0; expected at least 1."),
        ({"hidden_dim": 0}, "hidden_dim is 0; expected at least 1."),
        ({"num_blocks": 0}, "num_blocks is 0; expected at least 1."),
        ({"tokens_mlp_dim": -1}, "tokens_mlp_dim is -1; expected at least 1."),
        ({"channels_mlp_dim": 0}, "channels_mlp_dim is 0; expected at least 1."),
        ({"num_classes": 0}, "num_classes is 0; expected at least 1."),
        ({"head_hidden_dim": -1}, "head_hidden_dim is -1; expected at least 0."),
        ({"channels": 4}, "channels is 4; expected 1 or 3."),
        ({"image_size": 9}, "image_size is 9; expected a multiple of patch_size 4."),
        ({"gelu": "relu"}, "gelu is 'relu'; expected 'tanh' or 'erf'."),
        ({"pixel_mean": (1.0, 2.0)}, "pixel_mean has 2 values; expected 1 or 1."),
        ({"channels": 3, "pixel_std": (1.0, 2.0)}, "pixel_std has 2 values; expected 1 or 3."),
    ],
)
def test_impossible_sizes_are_named_with_value_and_expectation(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        toy_config(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize("pixel_std", [(0.0,), (-1.0,), (float("nan"),)])
def test_pixel_std_is_more_than_0(pixel_std: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"pixel_std is .*; expected more than 0"):
        toy_config(pixel_std=pixel_std)


def test_sizes_derived_from_a_config() -> None:
    assert (COLOR.num_patches, COLOR.patch_dim) == (4, 48)


# --- the weights to start from: lecun-normal kernels, zero biases, zero head ---

STD_WITHIN_TWO = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))  # of a normal


@pytest.fixture(scope="module")
def fresh() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    config = toy_config(
        image_size=32, patch_size=4, channels=3, hidden_dim=256, tokens_mlp_dim=192, channels_mlp_dim=512, num_classes=9
    )
    return {name: tensor.detach() for name, tensor in MlpMixer(config).named_parameters()}


def test_the_standard_deviation_of_a_normal_within_two_is_the_known_one() -> None:
    assert pytest.approx(0.87962566103423978, abs=1e-15) == STD_WITHIN_TWO


def test_every_kernel_but_the_heads_is_lecun_normal_truncated_at_two_standard_deviations(
    fresh: dict[str, torch.Tensor],
) -> None:
    kernels = {name: tensor for name, tensor in fresh.items() if tensor.ndim == 2 and name != "head.weight"}
    assert len(kernels) == 1 + 2 * 4
    for name, kernel in kernels.items():
        std = kernel.shape[1] ** -0.5
        bound = 2 * std / STD_WITHIN_TWO
        assert kernel.std().item() == pytest.approx(std, rel=0.02), name
        assert kernel.mean().item() == pytest.approx(0, abs=5 * std / math.sqrt(kernel.numel())), name
        assert kernel.abs().max().item() <= bound * (1 + 1e-6), name
        assert kernel.abs().max().item() > 0.99 * bound, name  # it is truncated there, not before
        within_one = (kernel.abs() < std / STD_WITHIN_TWO).float().mean().item()
        assert within_one == pytest.approx(0.6827 / 0.9545, abs=0.015), name  # a normal's share, not a uniform's


def test_biases_and_the_head_start_at_zero_and_layer_norms_at_one(fresh: dict[str, torch.Tensor]) -> None:
    assert not fresh["head.weight"].any()
    biases = [tensor for name, tensor in fresh.items() if name.endswith(".bias")]
    assert len(biases) == 1 + 2 * (2 + 4) + 1 + 1
    assert not any(tensor.any() for tensor in biases)
    norms = [tensor for name, tensor in fresh.items() if "layer_norm" in name and name.endswith(".weight")]
    assert len(norms) == 2 * 2 + 1
    assert all((tensor == 1).all() for tensor in norms)


# --- the network, written out by hand ---


def _gelu_erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _gelu_tanh(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _layer_norm(x: NDArray[np.float64], scale: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6) * scale + bias


def _by_hand(model: MlpMixer, image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(pre-logits [C], logits [K]) of one picture [H, W, C_in], in double precision."""
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    config = model.config
    gelu = {"erf": _gelu_erf, "tanh": _gelu_tanh}[config.gelu]

    def dense(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return _layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    size = config.patch_size
    patches = [
        image[row : row + size, column : column + size].ravel()
        for row in range(0, config.image_size, size)
        for column in range(0, config.image_size, size)
    ]
    tokens = dense("stem", (np.stack(patches).astype(np.float64) - 127.5) / 127.5)
    for index in range(config.num_blocks):
        name = f"blocks.{index}"
        columns = norm(f"{name}.layer_norm_0", tokens).T
        tokens = tokens + dense(f"{name}.token_mixing.dense_1", gelu(dense(f"{name}.token_mixing.dense_0", columns))).T
        rows = norm(f"{name}.layer_norm_1", tokens)
        tokens = tokens + dense(f"{name}.channel_mixing.dense_1", gelu(dense(f"{name}.channel_mixing.dense_0", rows)))
    pre_logits = norm("pre_head_layer_norm", tokens).mean(axis=0)
    return pre_logits, dense("head", pre_logits)


@pytest.mark.parametrize("gelu", ["erf", "tanh"])
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_and_pre_logits_are_the_papers_arithmetic(gelu: str, channels: int) -> None:
    model = random_mixer(toy_config(channels=channels, num_classes=5, gelu=gelu))
    pixels = random_pixels(3, 8, 8, channels)
    with torch.inference_mode():
        pre_logits = model.embed(patchify(torch.from_numpy(pixels), 4))
        logits = model(torch.from_numpy(pixels))
    for index, image in enumerate(pixels):
        expected_pre_logits, expected_logits = _by_hand(model, image)
        np.testing.assert_allclose(pre_logits[index], expected_pre_logits, atol=1e-4)
        np.testing.assert_allclose(logits[index], expected_logits, atol=1e-4)


@pytest.mark.parametrize(("gelu", "by_hand"), [("erf", _gelu_erf), ("tanh", _gelu_tanh)])
def test_the_mlps_gelu_is_the_flavour_it_says(gelu: str, by_hand: object) -> None:
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    np.testing.assert_allclose(MlpBlock(4, 8, gelu).gelu(x), by_hand(x.numpy()), atol=1e-12)  # type: ignore[arg-type,operator]


def test_the_two_gelus_differ() -> None:
    x = torch.linspace(-4, 4, 101)
    assert (MlpBlock(4, 8, "tanh").gelu(x) - MlpBlock(4, 8, "erf").gelu(x)).abs().max() > 1e-4


def test_forward_is_patchify_then_embed_then_classify() -> None:
    model = random_mixer(COLOR)
    images = torch.from_numpy(random_pixels(2, 8, 8, 3))
    torch.testing.assert_close(model(images), model.classify(model.embed(patchify(images, 4))), rtol=0, atol=0)


def test_uint8_and_float_pixels_give_the_same_logits() -> None:
    model = random_mixer(COLOR)
    images = torch.from_numpy(random_pixels(2, 8, 8, 3))
    torch.testing.assert_close(model(images), model(images.float()), rtol=0, atol=0)


def test_a_fresh_mixer_gives_zero_logits_to_everything() -> None:
    logits = MlpMixer(COLOR)(torch.from_numpy(random_pixels(4, 8, 8, 3)))
    assert logits.shape == (4, 5)
    assert not logits.any()


def test_a_pictures_logits_do_not_depend_on_its_neighbours() -> None:
    model = random_mixer(COLOR)
    first, second = (torch.from_numpy(random_pixels(4, 8, 8, 3, seed=seed)) for seed in (1, 2))
    second[2] = first[2]
    torch.testing.assert_close(model(first)[2], model(second)[2], rtol=0, atol=1e-6)
    torch.testing.assert_close(model(first)[2:3], model(first[2:3]), rtol=1e-5, atol=1e-5)


# --- the scale of the input ---


@pytest.mark.parametrize("grey_or_color", [1, 3])
def test_pixels_enter_between_minus_1_and_1(grey_or_color: int) -> None:
    model = MlpMixer(toy_config(channels=grey_or_color))
    extremes = torch.tensor([0.0, 127.5, 255.0])
    scaled = (extremes[:, None] - model.pixel_mean) / model.pixel_std
    assert scaled.shape == (3, 16 * grey_or_color)
    torch.testing.assert_close(scaled[:, 0], torch.tensor([-1.0, 0.0, 1.0]))


def test_pixel_mean_and_std_apply_to_their_own_channel() -> None:
    scaled = random_mixer(toy_config(channels=3, pixel_mean=(10.0, 20.0, 30.0), pixel_std=(1.0, 2.0, 4.0)))
    plain = random_mixer(toy_config(channels=3, pixel_mean=(0.0,), pixel_std=(1.0,)))
    images = torch.from_numpy(random_pixels(2, 8, 8, 3)).float()
    normalised = (images - torch.tensor([10.0, 20.0, 30.0])) / torch.tensor([1.0, 2.0, 4.0])
    torch.testing.assert_close(scaled(images), plain(normalised))


def test_the_input_scale_is_config_not_weight() -> None:
    assert not [name for name in MlpMixer(COLOR).state_dict() if name.startswith("pixel_")]


@pytest.mark.parametrize(
    ("mean", "std"), [((127.5,), (127.5,)), ((0.0,), (255.0,)), ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))]
)
@pytest.mark.parametrize("centre", [0.0, 128.0])
def test_the_folded_stem_on_raw_pixels_is_the_stem_on_normalised_ones(
    mean: tuple[float, ...], std: tuple[float, ...], centre: float
) -> None:
    model = random_mixer(toy_config(channels=3, pixel_mean=mean, pixel_std=std))
    patches = patchify(torch.from_numpy(random_pixels(2, 8, 8, 3)), 4).float()
    expected = model.stem((patches - model.pixel_mean) / model.pixel_std)
    torch.testing.assert_close(model.folded_stem(centre)(patches - centre), expected, rtol=1e-4, atol=1e-4)


def test_a_stem_is_folded_for_pixels_as_they_are_unless_told() -> None:
    model = random_mixer(COLOR)
    torch.testing.assert_close(model.folded_stem().bias, model.folded_stem(0.0).bias, rtol=0, atol=0)
    centred = model.folded_stem(100.0)
    torch.testing.assert_close(centred.weight, model.folded_stem().weight, rtol=0, atol=0)
    moved = model.folded_stem()(torch.full((1, COLOR.patch_dim), 100.0))[0]
    torch.testing.assert_close(centred.bias, moved, rtol=1e-4, atol=1e-4)


def test_folding_leaves_the_model_as_it_was() -> None:
    model = random_mixer(COLOR)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = model.folded_stem(128.0).half()
    torch.nn.init.zeros_(folded.weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# --- stochastic depth ---


def test_drop_rates_rise_linearly_to_the_last_block() -> None:
    scales = stochastic_depth(torch.rand(40_000, 5, 2), 0.4)
    assert scales.shape == (5, 2, 40_000, 1, 1)
    dropped = (scales == 0).float().mean(dim=(2, 3, 4))
    torch.testing.assert_close(
        dropped, torch.tensor([[0.0], [0.1], [0.2], [0.3], [0.4]]).expand(5, 2), rtol=0, atol=0.01
    )


def test_what_is_left_keeps_the_mean() -> None:
    scales = stochastic_depth(torch.rand(40_000, 3, 2), 0.5)
    torch.testing.assert_close(scales.mean(dim=(2, 3, 4)), torch.ones(3, 2), rtol=0, atol=0.03)
    assert scales[2].unique().tolist() == [0, 2]


def test_a_single_block_is_never_dropped() -> None:
    assert (stochastic_depth(torch.zeros(8, 1, 2), 0.4) == 1).all()


def test_scales_weigh_each_branch_of_each_picture() -> None:
    model = random_mixer(toy_config())
    images = torch.from_numpy(random_pixels(4, 8, 8, 1))
    whole = model(images)
    scales = torch.ones(2, 2, 4, 1, 1)
    torch.testing.assert_close(model(images, scales), whole)
    scales[1, 0, 2] = 0  # the token mixing of the last block, for the third picture
    changed = (model(images, scales) - whole).abs().amax(dim=1) > 1e-3
    assert changed.tolist() == [False, False, True, False]


def test_with_every_branch_dropped_only_the_stem_is_left() -> None:
    model = random_mixer(toy_config())
    patches = torch.from_numpy(random_pixels(3, 4, 16))
    left = model.embed(patches, torch.zeros(2, 2, 3, 1, 1))
    tokens = model.stem((patches.float() - 127.5) / 127.5)
    torch.testing.assert_close(left, model.pre_head_layer_norm(tokens).mean(dim=1))
