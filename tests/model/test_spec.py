from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from model.network.mixer import MlpMixer
from model.reference import Reference
from model.spec import Canary, Conformal, Fit, Metrics, ModelSpec, Network, Source
from model.weights.config import VARIANTS, MixerConfig, variant_name
from tests.model.toys import random_mixer, random_pixels, toy_config, toy_spec

CANARY = Canary(picture="iVBORw0=", logits=(0.5, -0.5), atol=1e-3)
METRICS = Metrics(data_set="toy", num_pictures=12, top1=0.75, top5=1.0, calibration_error=0.1)
CONFORMAL = Conformal(data_set="toy", num_pictures=3, scores=(0.0, 0.25, 1.0))
NETWORK = Network(hidden_dim=16, num_blocks=2, tokens_mlp_dim=8, channels_mlp_dim=32)


REFERENCE = Reference(
    data_set="toy",
    num_pictures=100,
    classes=(0.25, 0.75),
    probability=(0.1,) * 10,
    energy_edges=tuple(range(9)),
    energy=(0.1,) * 10,
)


def test_a_full_spec_survives_json() -> None:
    spec = toy_spec(
        fit=Fit(mode="pad", background="dark"),
        interpolation="lanczos",
        temperature=1.5,
        energy_threshold=-2.5,
        conformal=CONFORMAL,
        reference=REFERENCE,
        metrics=METRICS,
        canary=CANARY,
        network=NETWORK,
        variant="S/16",
    )
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_spec_from_before_there_were_backgrounds_takes_any() -> None:
    older = toy_spec(fit=Fit(mode="pad", background="dark")).model_dump(mode="json")
    assert older["fit"].pop("background") == "dark"
    assert ModelSpec.model_validate(older) == toy_spec(fit=Fit(mode="pad"))
    assert ModelSpec.model_validate(older).fit.background == "any"


def test_a_spec_from_before_there_were_thresholds_has_none() -> None:
    older = toy_spec(energy_threshold=1.0, conformal=CONFORMAL).model_dump(mode="json")
    del older["energy_threshold"], older["conformal"]
    assert ModelSpec.model_validate(older) == toy_spec()
    assert (toy_spec().energy_threshold, toy_spec().conformal) == (None, None)


def test_a_background_is_any_or_dark() -> None:
    with pytest.raises(ValidationError, match="background"):
        Fit.model_validate({"background": "light"})


def test_num_patches_is_the_square_of_the_patches_of_a_side() -> None:
    assert toy_spec(image_size=224, patch_size=16).num_patches == 196


@pytest.mark.parametrize(("channels", "patch_bytes"), [(1, 16), (3, 48)])
def test_patch_bytes_counts_every_channel(channels: int, patch_bytes: int) -> None:
    assert toy_spec(channels=channels).patch_bytes == patch_bytes


# --- the network inside ---


def sized(config: MixerConfig, **changes: Any) -> ModelSpec:
    """The spec of a network of these sizes."""
    sizes = {"image_size": config.image_size, "patch_size": config.patch_size, "channels": config.channels}
    labels = tuple(str(index) for index in range(config.num_classes))
    network = Network(**{size: getattr(config, size) for size in Network.model_fields})
    return toy_spec(**sizes, num_classes=config.num_classes, labels=labels, network=network, **changes)


def test_a_spec_from_before_networks_were_told_knows_no_gflops() -> None:
    older = toy_spec().model_dump(mode="json")
    del older["network"]
    spec = ModelSpec.model_validate(older)
    assert (spec.network, spec.gflops, spec.widest_activation) == (None, None, None)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "config",
    [VARIANTS["S/16"], VARIANTS["L/32"], toy_config(channels=3, num_classes=5), toy_config(head_hidden_dim=24)],
    ids=variant_name,
)
def test_gflops_are_what_torch_counts(config: MixerConfig) -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        MlpMixer(config)(torch.empty(1, config.image_size, config.image_size, config.channels))
    assert sized(config).gflops == pytest.approx(1e-9 * counter.get_total_flops(), rel=1e-12)


def test_the_papers_b_16_takes_12_point_6_thousand_million_multiply_adds() -> None:
    assert sized(VARIANTS["B/16"]).gflops == pytest.approx(2 * 12.6, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "widest"),
    [
        ({"channels_mlp_dim": 100}, 4 * 100),  # S D_C
        ({"tokens_mlp_dim": 50}, 16 * 50),  # C D_S
        ({"image_size": 24, "channels_mlp_dim": 8}, 16 * 36),  # C S
    ],
)
def test_the_widest_activation_is_the_largest_thing_that_a_layer_takes_or_gives(
    changes: dict[str, Any], widest: int
) -> None:
    config = toy_config(**changes)
    seen: list[int] = []
    model = random_mixer(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _, given, output: seen.extend((given[0].numel(), output.numel())))
    model(torch.from_numpy(random_pixels(1, config.image_size, config.image_size, 1)))
    assert sized(config).widest_activation == max(seen) == widest


def test_a_linear_head_is_written_as_earlier_versions_read_it_and_a_hidden_layer_is_told() -> None:
    assert "head_hidden_dim" not in sized(toy_config()).model_dump_json()
    deep = sized(toy_config(head_hidden_dim=24))
    assert ModelSpec.model_validate_json(deep.model_dump_json()) == deep


@pytest.mark.parametrize("size", [name for name in Network.model_fields if name != "head_hidden_dim"])
def test_sizes_of_a_network_are_at_least_1(size: str) -> None:
    with pytest.raises(ValidationError, match=size):
        Network.model_validate({**NETWORK.model_dump(), size: 0})


# --- what cannot be ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 10}, "image_size is 10; expected a multiple of patch_size 4."),
        ({"labels": ("only one",)}, "labels has 1 entries; expected num_classes 2."),
        (
            {"canary": Canary(picture="", logits=(1.0, 2.0, 3.0), atol=1e-3)},
            "canary.logits has 3 entries; expected num_classes 2.",
        ),
    ],
)
def test_sizes_that_disagree_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        toy_spec(**changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("image_size", 0),
        ("patch_size", 0),
        ("channels", 2),
        ("num_classes", 0),
        ("interpolation", "sinc"),
        ("temperature", 0.0),
        ("temperature", float("inf")),
        ("temperature", float("nan")),
        ("energy_threshold", float("inf")),
        ("energy_threshold", float("nan")),
        ("colour", "blue"),
    ],
)
def test_an_impossible_or_unknown_field_is_named(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        toy_spec(**{field: value})


@pytest.mark.parametrize("percentage", [0.0, -0.5, 1.01])
def test_crop_percentage_lies_above_0_and_up_to_1(percentage: float) -> None:
    with pytest.raises(ValidationError, match="crop_percentage"):
        Fit(crop_percentage=percentage)


@pytest.mark.parametrize("name", ["top1", "top5", "calibration_error"])
@pytest.mark.parametrize("rate", [-0.01, 1.01, float("nan")])
def test_rates_are_fractions(name: str, rate: float) -> None:
    with pytest.raises(ValidationError, match=name):
        Metrics.model_validate({**METRICS.model_dump(), name: rate})


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        toy_spec().name = "other"  # type: ignore[misc]


def test_the_licence_is_unknown_unless_told() -> None:
    assert Source(origin="somewhere").license == "unknown"


@pytest.mark.parametrize("atol", [0.0, float("inf"), float("nan")])
def test_a_canary_has_a_tolerance_that_something_can_exceed(atol: float) -> None:
    with pytest.raises(ValidationError, match="atol"):
        Canary(picture="", logits=(0.0,), atol=atol)


@pytest.mark.parametrize("logit", [float("inf"), float("nan")])
def test_a_canary_has_logits_that_something_can_equal(logit: float) -> None:
    with pytest.raises(ValidationError, match="logits"):
        Canary(picture="", logits=(0.0, logit), atol=1.0)


@pytest.mark.parametrize("picture", ["abcde", "not base64!", "ab=c"])
def test_a_canary_is_base64(picture: str) -> None:
    with pytest.raises(ValidationError, match="picture"):
        Canary(picture=picture, logits=(0.0,), atol=1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": ()},
        {"scores": (0.5, 0.25)},
        {"scores": (-0.1, 0.5)},
        {"scores": (0.5, 1.5)},
        {"scores": (float("nan"), 0.5)},
        {"scores": (0.5,) * 4},
        {"num_pictures": 0},
    ],
)
def test_scores_are_ascending_fractions_of_no_more_than_the_pictures(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"scores|num_pictures"):
        Conformal.model_validate({**CONFORMAL.model_dump(), **changes})


@pytest.mark.parametrize(("coverage", "score"), [(1e-9, 0.0), (0.25, 0.0), (0.26, 0.25), (0.75, 1.0), (0.76, 1.0)])
def test_a_quantile_is_a_score_by_its_rank_among_one_more(coverage: float, score: float) -> None:
    assert CONFORMAL.quantile(coverage) == score


def test_of_thinned_scores_the_next_one_stands_for_those_left_out() -> None:
    thinned = Conformal(data_set="toy", num_pictures=9, scores=(0.3, 0.6, 0.9))  # of 0.1, 0.2, ... 0.9
    found = [thinned.quantile(rank / 10) for rank in range(1, 10)]
    assert found == [0.3] * 3 + [0.6] * 3 + [0.9] * 3
    assert thinned.quantile(0.91) == 1.0


def test_a_reference_is_of_as_many_classes() -> None:
    fewer = REFERENCE.model_copy(update={"classes": (1.0,)})
    with pytest.raises(ValidationError, match=r"reference\.classes has 1 entries; expected num_classes 2"):
        ModelSpec.model_validate(toy_spec().model_dump() | {"reference": fewer.model_dump()})
