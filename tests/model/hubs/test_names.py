"""Names of public checkpoints, and what else a person may write in their place."""

from pathlib import Path

import pytest

from model.errors import CheckpointError
from model.hubs import names


def test_a_path_is_no_name() -> None:
    assert names.find("Mixer-B_16.npz", {}) is None
    assert names.find("C:/weights.npz", {}) is None


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("google:imagenet21k/Mixer-L_16", "https://storage.googleapis.com/mixer_models/imagenet21k/Mixer-L_16.npz"),
        ("google:sam/Mixer-B_32", "https://storage.googleapis.com/mixer_models/sam/Mixer-B_32.npz"),
        ("google:gsam/Mixer-S_8", "https://storage.googleapis.com/mixer_models/gsam/Mixer-S_8.npz"),
        (
            "timm:mixer_b16_224.goog_in21k_ft_in1k",
            "https://huggingface.co/timm/mixer_b16_224.goog_in21k_ft_in1k/resolve/main/model.safetensors",
        ),
    ],
)
def test_names_have_their_public_addresses(name: str, url: str) -> None:
    remote = names.find(name, {})
    assert remote is not None
    assert remote.url == url
    assert (remote.pixel_mean, remote.pixel_std) == ((127.5,), (127.5,))


@pytest.mark.parametrize("name", ["google:gsam/Mixer-S_8", "timm:mixer_b16_224.goog_in21k"])
def test_an_empty_variable_names_no_mirror(name: str) -> None:
    assert names.find(name, {"MIXER_GOOGLE_MODELS_URL": "", "HF_ENDPOINT": ""}) == names.find(name, {})


def test_the_miil_weights_take_pixels_in_0_to_1_resized_bilinearly() -> None:
    remote = names.find("timm:mixer_b16_224.miil_in21k_ft_in1k", {})
    assert remote is not None
    assert (remote.pixel_mean, remote.pixel_std, remote.interpolation) == ((0.0,), (255.0,), "bilinear")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("google:imagenet1k/Mixer-B_16", True),
        ("google:imagenet1k/Mixer-L_16", True),
        ("google:sam/Mixer-B_32", True),
        ("google:gsam/Mixer-S_8", True),
        ("google:imagenet21k/Mixer-B_16", False),
        ("google:imagenet21k/Mixer-L_16", False),
        ("timm:mixer_b16_224.goog_in21k_ft_in1k", True),
        ("timm:mixer_l16_224.goog_in21k_ft_in1k", True),
        ("timm:mixer_b16_224.miil_in21k_ft_in1k", True),
        ("timm:mixer_b16_224.goog_in21k", False),
        ("timm:mixer_l16_224.goog_in21k", False),
        ("timm:mixer_b16_224.miil_in21k", False),
    ],
)
def test_a_name_says_whether_its_classes_are_imagenet_1ks(name: str, *, expected: bool) -> None:
    remote = names.find(name, {})
    assert remote is not None
    assert remote.is_imagenet1k is expected


@pytest.mark.parametrize("name", ["google:", "timm:resnet50", "GOOGLE:vit"])
def test_an_unlike_name_is_told_all_of_its_origin(name: str) -> None:
    with pytest.raises(
        CheckpointError, match=r"is not a checkpoint that is known here; expected one of .*16"
    ) as caught:
        names.find(name, {})
    origin = name.partition(":")[0].lower()
    assert str(caught.value).count(f"{origin}:") >= 6


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mixer_b16_224", "timm:mixer_b16_224.goog_in21k_ft_in1k"),
        ("timm:mixer_b16", "timm:mixer_b16_224.miil_in21k"),
        ("timm:mixer_b16_224", "timm:mixer_b16_224.goog_in21k_ft_in1k"),
        ("timm/mixer_b16_224.goog_in21k", "timm:mixer_b16_224.goog_in21k"),
        ("hf_hub:timm/mixer_l16_224.goog_in21k_ft_in1k", "timm:mixer_l16_224.goog_in21k_ft_in1k"),
        ("TIMM:Mixer_B16_224.miil_in21k", "timm:mixer_b16_224.miil_in21k"),
        ("timm:mixer_b16_224_miil_in21k", "timm:mixer_b16_224.miil_in21k"),
        ("timm:mixer_b16_244.goog_in21k", "timm:mixer_b16_224.goog_in21k"),
        ("timm:mixer_b16_224.goog_in21k_ft_in1", "timm:mixer_b16_224.goog_in21k_ft_in1k"),
        ("google:imagenet1k/Mixer-B_61", "google:imagenet1k/Mixer-B_16"),
        ("Mixer-S_8", "google:gsam/Mixer-S_8"),
        ("imagenet1k/Mixer-L_16", "google:imagenet1k/Mixer-L_16"),
        ("google:imagenet1k/Mixer-S_16", "google:gsam/Mixer-S_16"),
        ("google:imagenet1k/mixer_l_16.npz", "google:imagenet1k/Mixer-L_16"),
        ("google:gsam/Mixer-S/8", "google:gsam/Mixer-S_8"),
        ("gs://mixer_models/sam/Mixer-B_32.npz", "google:sam/Mixer-B_32"),
    ],
)
def test_what_is_nearly_a_name_is_told_the_name(name: str, meant: str) -> None:
    assert names.is_name(name)
    with pytest.raises(CheckpointError) as caught:
        names.find(name, {})
    told = str(caught.value).removeprefix(f"{name} is not a checkpoint that is known here; expected ")
    told_names = told.removeprefix("one of ").removesuffix(".").split(", ")
    assert meant in told_names
    assert len(told_names) <= 4


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (
            "https://models.test/timm/mixer_b16_224.goog_in21k_ft_in1k",
            "the name timm:mixer_b16_224.goog_in21k_ft_in1k.",
        ),
        ("http://models.test/mixer_models/sam/Mixer-B_16.npz?download=true", "the name google:sam/Mixer-B_16."),
        (
            "https://models.test/other.npz",
            "google:FOLDER/NAME, timm:NAME, hf-hub:ORG/REPO, or a file that was downloaded from there.",
        ),
    ],
)
def test_an_address_is_no_path(address: str, expected: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        names.find(address, {})
    assert str(caught.value) == f"{address} is an address; expected {expected}"


@pytest.mark.parametrize(
    "path", ["runs/mixer_b16_224", "./Mixer-B_16", "/weights/Mixer-B_16", "Mixer-B_16.PTH", "dogs"]
)
def test_a_path_that_is_like_a_name_is_a_path(path: str) -> None:
    assert names.find(path, {}) is None


def test_a_folder_that_exists_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names.is_name("mixer_b16_224")
    Path("mixer_b16_224").mkdir()
    assert not names.is_name("mixer_b16_224")


# --- repositories of the hub ---


@pytest.mark.parametrize(
    ("name", "repository", "revision"),
    [
        ("hf-hub:someone/a-mixer_2.0", "someone/a-mixer_2.0", "main"),
        ("hf-hub:someone/mixer@v1.2", "someone/mixer", "v1.2"),
        ("hf-hub:someone/mixer@refs/pr/3", "someone/mixer", "refs/pr/3"),
        ("timm:mixer_b16_224.goog_in21k@c0ffee", "timm/mixer_b16_224.goog_in21k", "c0ffee"),
    ],
)
def test_a_repository_may_be_named_with_a_revision(name: str, repository: str, revision: str) -> None:
    remote = names.find(name, {"HF_ENDPOINT": "https://mirror.test/"})
    assert remote is not None
    assert (remote.repository, remote.revision) == (repository, revision)
    assert remote.url == f"https://mirror.test/{repository}/resolve/{revision}/model.safetensors"
    assert remote.has_config == name.startswith("hf-hub:"), "timm's own are known without it"
    assert "/" not in remote.filename


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:mixer", "hf-hub:a/b/c", "hf-hub:../etc", "hf-hub:a b/c"])
def test_what_is_no_repository_is_told_how_one_is_named(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"names no repository; expected hf-hub:ORG/REPO, or"):
        names.find(name, {})


@pytest.mark.parametrize("revision", ["", "../..", "a b", "-x", "/a"])
def test_what_can_be_no_revision_is_refused(revision: str) -> None:
    with pytest.raises(CheckpointError, match=r"has the revision .*; expected a branch, a tag or a commit"):
        names.find(f"hf-hub:someone/mixer@{revision}", {})


@pytest.mark.parametrize("name", ["hf:someone/thing", "hf_hub:someone/thing", "huggingface:someone/thing"])
def test_other_spellings_of_the_hub_are_told_ours(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"expected hf-hub:someone/thing\.$"):
        names.find(name, {})
