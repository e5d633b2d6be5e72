"""timm's config.json: preprocessing and labels that it names, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from model.errors import CheckpointError
from model.hubs import timm_config
from model.hubs.remote import Remote
from model.spec import Fit, ModelSpec, Source

REMOTE = Remote("https://hub.test/a/b", "hf-hub-a-b.safetensors", has_config=True)
PRETRAINED = {
    "input_size": [3, 224, 224], "interpolation": "bilinear", "crop_pct": 0.9, "crop_mode": "center",
    "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 1.0],
}  # fmt: skip
CONFIG: dict[str, Any] = {"architecture": "mixer_s16_224", "num_classes": 2, "pretrained_cfg": PRETRAINED}


def described(**changes: Any) -> Remote:
    return timm_config.described(REMOTE, {**CONFIG, **changes}, "config.json of a/b")


def pretrained(**changes: Any) -> Remote:
    return described(pretrained_cfg={**PRETRAINED, **changes})


def refusal(remote: Any, **changes: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        remote(**changes)
    return str(caught.value)


def test_normalization_crop_and_interpolation_are_those_of_the_config() -> None:
    remote = described()
    assert (remote.pixel_mean, remote.pixel_std) == ((127.5,), (63.75, 127.5, 255.0))
    assert (remote.fit, remote.interpolation) == (Fit(mode="crop", crop_percentage=0.9), "bilinear")
    assert not remote.has_config, "read by now"


def test_an_older_config_has_everything_at_its_top() -> None:
    remote = timm_config.described(REMOTE, {"architecture": "mixer_b16_224", **PRETRAINED}, "config.json")
    assert remote.fit == Fit(mode="crop", crop_percentage=0.9)


def test_what_is_not_said_is_as_timm_has_it_for_mixers() -> None:
    remote = timm_config.described(REMOTE, {"architecture": "mixer_b16_224"}, "config.json")
    assert (remote.pixel_mean, remote.pixel_std, remote.interpolation) == ((127.5,), (127.5,), "bicubic")
    assert remote.fit == Fit(mode="crop", crop_percentage=0.875)


@pytest.mark.parametrize(("mode", "fit"), [("squash", Fit(mode="stretch")), ("border", Fit(mode="pad"))])
def test_whole_pictures_are_stretched_or_padded(mode: str, fit: Fit) -> None:
    remote = pretrained(crop_mode=mode, crop_pct=1.0)
    assert remote.fit == fit
    assert bool(remote.notes) == (mode == "border"), "whose strips are black with timm"


@pytest.mark.parametrize(("name", "flavour"), [("gelu", "erf"), ("gelu_tanh", "tanh")])
def test_the_gelu_may_be_named(name: str, flavour: str) -> None:
    assert described(model_args={"act_layer": name}).gelu == flavour
    assert described(model_args={"patch_size": 16}).gelu is None


# --- this project's own spec ---


SPEC = ModelSpec(
    name="pets", image_size=224, patch_size=16, channels=3, num_classes=2, labels=("cat", "dog"), temperature=1.7,
    fit=Fit(mode="pad"), source=Source(origin="photographs", license="mit"),
)  # fmt: skip


def test_a_spec_of_this_project_is_kept_and_nothing_is_told_of_borders() -> None:
    own = {"spec": SPEC.model_dump(mode="json", exclude_none=True)}
    remote = described(mixer_serve=own, pretrained_cfg={**PRETRAINED, "crop_mode": "border", "crop_pct": 1.0})
    assert remote.spec == SPEC
    assert remote.notes == ()


@pytest.mark.parametrize("spec", [None, [], {}, {**SPEC.model_dump(mode="json"), "added_later": 1}])
def test_a_spec_of_another_version_is_passed_over_and_told(spec: Any) -> None:
    remote = described(mixer_serve={"spec": spec})
    assert remote.spec is None
    assert remote.notes == (
        "its spec is of another version of mixer-serve: temperature, threshold and label sets are not kept.",
    )


@pytest.mark.parametrize("change", [{"name": "a\nb"}, {"labels": ("cat", "\x1b[2J")}, {"version": "\u2028"}])
def test_a_spec_that_would_write_to_a_terminal_is_refused(change: dict[str, Any]) -> None:
    own = {"spec": {**SPEC.model_dump(mode="json"), **change}}
    assert refusal(described, mixer_serve=own).endswith("in its spec; expected a line of text.")


# --- labels ---


def test_labels_are_the_names_of_the_config() -> None:
    assert described(label_names=["cat", "dog"]).labels == ("cat", "dog")
    assert pretrained(label_names=["cat", "dog"]).labels == ("cat", "dog")


def test_names_that_are_keys_of_descriptions_are_replaced_by_them() -> None:
    words = {"n02123045": "tabby, tabby cat", "n02084071": "dog"}
    assert described(label_names=list(words), label_descriptions=words).labels == ("tabby, tabby cat", "dog")


def test_labels_that_repeat_are_told_apart_by_their_number() -> None:
    assert described(label_names=["crane", "dog", "crane"]).labels == ("crane (0)", "dog", "crane (2)")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_classes": 1000}, True),
        ({"num_classes": 21843}, False),
        ({"num_classes": 1000, "label_names": [str(index) for index in range(1000)]}, False),
    ],
)
def test_a_thousand_classes_without_names_are_imagenet_1ks(changes: dict[str, Any], *, expected: bool) -> None:
    assert described(**changes).is_imagenet1k is expected


# --- refusals, each in one line ---


@pytest.mark.parametrize("architecture", ["resnet50", "gmixer_24_224", "resmlp_12_224", None])
def test_another_network_than_a_mixer_is_named(architecture: str | None) -> None:
    found = f"the architecture {architecture!r}" if architecture else "no architecture"
    told = f"config.json of a/b has {found}; expected a Mixer of timm's, as mixer_b16_224."
    assert refusal(described, architecture=architecture) == told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"interpolation": "random"}, "has interpolation 'random'; expected one of nearest, "),
        ({"crop_pct": 1.5}, "has crop_pct 1.5; expected a number above 0, and at most 1."),
        ({"crop_mode": "squash"}, "has crop_mode 'squash' with crop_pct 0.9; expected center, or squash or border w"),
        ({"mean": [1, 2]}, "has mean [1, 2]; expected one number, or one for each of three channels."),
        ({"mean": "0.5"}, "has mean '0.5'; expected one number, or one for each of three channels."),
        ({"mean": [float("nan")] * 3}, "has mean [nan, nan, nan]; expected numbers of at most 1000."),
        ({"std": [float("inf")]}, "has std [inf]; expected numbers of at most 1000."),
        ({"std": [10**400]}, "has std [1000"),
        ({"label_names": ["cat", "\ud800"]}, "has the label '\\ud800'; expected a line of text."),
        ({"label_names": ["cat", "a\x1b[2J"]}, "has the label 'a\\x1b[2J'; expected a line of text."),
        ({"label_names": ["cat", "a\nb"]}, "has the label 'a\\nb'; expected a line of text."),
        ({"label_names": ["cat", ""]}, "has the label ''; expected a line of text."),
        ({"label_names": "cat"}, "has label_names that are no list of words; expected one."),
    ],
)
def test_preprocessing_that_does_not_exist_here_is_named(changes: dict[str, Any], told: str) -> None:
    assert refusal(pretrained, **changes).startswith(f"config.json of a/b {told}")


def test_an_unknown_activation_is_named() -> None:
    assert refusal(described, model_args={"act_layer": "silu"}).endswith("'silu'; expected gelu or gelu_tanh.")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON: maximum recursion depth exceeded"),
        ("[]", "holds list; expected an obj"),
    ],
)
def test_a_file_that_is_no_config_is_named(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=told):
        timm_config.read(tmp_path / "config.json")
