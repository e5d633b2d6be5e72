import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

from model.errors import CheckpointError
from model.hubs import names
from model.network import checkpoint, foreign, zoo
from model.network.mixer import MlpMixer
from model.preprocess import patchify
from model.spec import Fit
from tests.model.toys import random_mixer, random_pixels, toy_config

VECTORS = Path(__file__).parents[2] / "vectors"
FILES = {"google": "google_tiny.npz", "timm": "timm_tiny.safetensors"}
Tensors = dict[str, NDArray[np.float32]]


def _tensors(layout: str) -> Tensors:
    path = VECTORS / FILES[layout]
    return dict(np.load(path)) if layout == "google" else load_file(path)


def _write(folder: Path, layout: str, tensors: Tensors) -> Path:
    path = folder / FILES[layout]
    if layout == "google":
        np.savez(path, **tensors)
    else:
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)
    return path


# --- the reference implementations' own numbers ---


@pytest.mark.parametrize("layout", FILES)
def test_a_foreign_checkpoint_gives_its_own_implementations_logits(layout: str) -> None:
    model = zoo.read(VECTORS / FILES[layout]).model
    reference = np.load(VECTORS / f"{layout}_tiny_io.npz")
    with torch.inference_mode():
        pre_logits = model.embed(patchify(torch.from_numpy(reference["pixels"]), 4)).numpy()
    np.testing.assert_allclose(pre_logits, reference["pre_logits"], rtol=0, atol=1e-5)
    logits = checkpoint.torch_logits(model, reference["pixels"])
    np.testing.assert_allclose(logits, reference["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("layout", "gelu", "interpolation", "tokens_mlp_dim", "channels_mlp_dim"),
    [("google", "tanh", "bilinear", 24, 64), ("timm", "erf", "bicubic", 16, 128)],
)
def test_sizes_and_conventions_are_read_off_the_file(
    layout: str, gelu: str, interpolation: str, tokens_mlp_dim: int, channels_mlp_dim: int
) -> None:
    loaded = zoo.read(VECTORS / FILES[layout])
    config = loaded.model.config
    assert (config.image_size, config.patch_size, config.channels) == (16, 4, 3)
    assert (config.hidden_dim, config.num_blocks, config.num_classes) == (32, 2, 7)
    assert (config.tokens_mlp_dim, config.channels_mlp_dim) == (tokens_mlp_dim, channels_mlp_dim)
    assert config.gelu == gelu
    assert loaded.spec.interpolation == interpolation
    assert loaded.spec.fit == Fit(mode="crop", crop_percentage=0.875)
    assert loaded.spec.name == f"{layout}_tiny"
    assert loaded.spec.source.origin.startswith(FILES[layout])
    assert not loaded.model.training


def test_labels_are_the_class_numbers_unless_given() -> None:
    path = VECTORS / FILES["google"]
    assert zoo.read(path).spec.labels == tuple("0123456")
    assert zoo.read(path, tuple("abcdefg")).spec.labels == tuple("abcdefg")


@pytest.mark.parametrize("labels", [("a", "b"), ()])
def test_a_number_of_labels_other_than_of_classes_is_named(labels: tuple[str, ...]) -> None:
    with pytest.raises(CheckpointError, match=f"has 7 classes; expected as many labels, not {len(labels)}"):
        zoo.read(VECTORS / FILES["google"], labels)


# --- ImageNet-1k's classes in words ---


def _with_a_thousand_classes(folder: Path) -> Path:
    head = {"head/kernel": np.zeros((32, 1000), np.float32), "head/bias": np.zeros(1000, np.float32)}
    return _write(folder, "google", {**_tensors("google"), **head})


def _known(name: str) -> names.Remote:
    remote = names.find(name, {})
    assert remote is not None
    return remote


def test_imagenet_1k_has_a_thousand_different_words() -> None:
    labels = foreign.imagenet1k_labels()
    assert len(labels) == len(set(labels)) == 1000
    assert all(label == label.strip() and label.isascii() and label.isprintable() for label in labels)


@pytest.mark.parametrize(
    ("index", "word"),
    [
        (0, "tench"),
        (1, "goldfish"),
        (134, "crane (bird)"),
        (151, "Chihuahua"),
        (207, "golden retriever"),
        (281, "tabby"),
        (340, "zebra"),
        (404, "airliner"),
        (517, "crane (machine)"),
        (638, "maillot"),
        (639, "tank suit"),
        (817, "sports car"),
        (954, "banana"),
        (999, "toilet tissue"),
    ],
)
def test_imagenet_1ks_words_are_in_their_usual_order(index: int, word: str) -> None:
    assert foreign.imagenet1k_labels()[index] == word


@pytest.mark.parametrize(
    "name", ["google:imagenet1k/Mixer-B_16", "google:gsam/Mixer-S_8", "timm:mixer_b16_224.miil_in21k_ft_in1k"]
)
def test_a_name_with_imagenet_1ks_classes_brings_their_words(tmp_path: Path, name: str) -> None:
    path = _with_a_thousand_classes(tmp_path)
    assert zoo.read(path, None, _known(name)).spec.labels == foreign.imagenet1k_labels()
    own = tuple(f"thing {index}" for index in range(1000))
    assert zoo.read(path, own, _known(name)).spec.labels == own, "unless others are given"


@pytest.mark.parametrize("name", [None, "google:imagenet21k/Mixer-B_16", "timm:mixer_b16_224.goog_in21k"])
def test_a_thousand_classes_alone_are_no_reason_for_imagenet_1ks_words(tmp_path: Path, name: str | None) -> None:
    remote = None if name is None else _known(name)
    labels = zoo.read(_with_a_thousand_classes(tmp_path), None, remote).spec.labels
    assert labels == tuple(str(index) for index in range(1000))


def test_a_name_whose_file_has_other_classes_than_it_says_gets_numbers() -> None:
    loaded = zoo.read(VECTORS / FILES["google"], None, _known("google:imagenet1k/Mixer-B_16"))
    assert loaded.spec.labels == tuple("0123456")


def test_imagenet_1ks_words_can_be_given_to_a_file_with_as_many_classes(tmp_path: Path) -> None:
    words = foreign.imagenet1k_labels()
    assert zoo.read(_with_a_thousand_classes(tmp_path), words).spec.labels == words
    with pytest.raises(CheckpointError) as caught:
        zoo.read(VECTORS / FILES["google"], words)
    path = VECTORS / FILES["google"]
    assert str(caught.value) == f"{path} has 7 classes; expected as many labels, not 1000."


# --- other sizes: a toy of ours written in their layouts, and read back ---


def _as_google(model: MlpMixer) -> Tensors:
    ours, config = {name: tensor.numpy() for name, tensor in model.state_dict().items()}, model.config
    stem = ours["stem.weight"].T.reshape(config.patch_size, config.patch_size, config.channels, config.hidden_dim)
    theirs = {"stem/kernel": stem, "stem/bias": ours["stem.bias"]}
    for index in range(config.num_blocks):
        for norm in (0, 1):
            for part, name in (("weight", "scale"), ("bias", "bias")):
                theirs[f"MixerBlock_{index}/LayerNorm_{norm}/{name}"] = ours[f"blocks.{index}.layer_norm_{norm}.{part}"]
        for mlp in ("token_mixing", "channel_mixing"):
            for dense in (0, 1):
                name = f"MixerBlock_{index}/{mlp}/Dense_{dense}"
                theirs[f"{name}/kernel"] = ours[f"blocks.{index}.{mlp}.dense_{dense}.weight"].T
                theirs[f"{name}/bias"] = ours[f"blocks.{index}.{mlp}.dense_{dense}.bias"]
    theirs["pre_head_layer_norm/scale"] = ours["pre_head_layer_norm.weight"]
    theirs["pre_head_layer_norm/bias"] = ours["pre_head_layer_norm.bias"]
    return {**theirs, "head/kernel": ours["head.weight"].T, "head/bias": ours["head.bias"]}


def _as_timm(model: MlpMixer) -> Tensors:
    config = model.config
    renamed = (
        ("stem.", "stem.proj."),
        ("pre_head_layer_norm", "norm"),
        ("layer_norm_0", "norm1"),
        ("layer_norm_1", "norm2"),
        ("token_mixing", "mlp_tokens"),
        ("channel_mixing", "mlp_channels"),
        ("dense_0", "fc1"),
        ("dense_1", "fc2"),
    )
    theirs = {}
    for name, tensor in model.state_dict().items():
        for ours, other in renamed:
            name = name.replace(ours, other)  # noqa: PLW2901
        theirs[name] = tensor.numpy()
    size = (config.hidden_dim, config.patch_size, config.patch_size, config.channels)
    return {**theirs, "stem.proj.weight": theirs["stem.proj.weight"].reshape(size).transpose(0, 3, 1, 2)}


@pytest.mark.parametrize(
    ("layout", "gelu", "foreign"), [("google", "tanh", _as_google), ("timm", "erf", _as_timm)], ids=["google", "timm"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_checkpoint_of_any_size_survives_a_round_trip(
    tmp_path: Path, layout: str, gelu: str, foreign: Callable[[MlpMixer], Tensors], channels: int
) -> None:
    config = toy_config(
        image_size=15, patch_size=5, hidden_dim=12, num_blocks=11, tokens_mlp_dim=7, channels=channels, gelu=gelu
    )
    model = random_mixer(config)
    loaded = zoo.read(_write(tmp_path, layout, foreign(model)))
    assert loaded.model.config == config
    pixels = random_pixels(2, 15, 15, channels)
    np.testing.assert_array_equal(checkpoint.torch_logits(loaded.model, pixels), checkpoint.torch_logits(model, pixels))


@pytest.mark.parametrize("layout", FILES)
def test_half_precision_weights_are_widened(tmp_path: Path, layout: str) -> None:
    halves = {name: tensor.astype(np.float16) for name, tensor in _tensors(layout).items()}
    loaded = zoo.read(_write(tmp_path, layout, halves))
    assert {tensor.dtype for tensor in loaded.model.state_dict().values()} == {torch.float32}


def test_an_imported_checkpoint_can_be_saved_and_loaded(tmp_path: Path) -> None:
    imported = zoo.read(VECTORS / FILES["timm"])
    checkpoint.save(imported, tmp_path)
    pixels = np.load(VECTORS / "timm_tiny_io.npz")["pixels"]
    np.testing.assert_array_equal(
        checkpoint.torch_logits(checkpoint.load(tmp_path).model, pixels),
        checkpoint.torch_logits(imported.model, pixels),
    )


# --- as wrappers save them ---

_PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "model._orig_mod.module."]


def _expect_as_without_wrapper(path: Path, layout: str) -> None:
    pixels = np.load(VECTORS / f"{layout}_tiny_io.npz")["pixels"]
    plain = checkpoint.torch_logits(zoo.read(VECTORS / FILES[layout]).model, pixels)
    np.testing.assert_array_equal(checkpoint.torch_logits(zoo.read(path).model, pixels), plain)


@pytest.mark.parametrize(
    ("layout", "prefix"),
    [*(("timm", prefix) for prefix in _PREFIXES), ("google", "params/"), ("google", "opt/target/")],
)
def test_a_prefix_is_taken_off(tmp_path: Path, layout: str, prefix: str) -> None:
    wrapped = {prefix + name: tensor for name, tensor in _tensors(layout).items()}
    _expect_as_without_wrapper(_write(tmp_path, layout, wrapped), layout)


def test_a_wrong_tensor_behind_a_prefix_is_named_without_it(tmp_path: Path) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in _tensors("timm").items() if name != "norm.bias"}
    with pytest.raises(CheckpointError, match=r"lacks the tensor 'norm\.bias' of the timm layout\.$"):
        zoo.read(_write(tmp_path, "timm", wrapped))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".PTH", ".ckpt", ".pth.tar"])
@pytest.mark.parametrize("part", [None, "state_dict", "model", "model_ema"])
def test_a_file_of_torch_save_is_read(tmp_path: Path, suffix: str, part: str | None) -> None:
    tensors = {f"module.{name}": torch.from_numpy(tensor) for name, tensor in _tensors("timm").items()}
    beside = {"epoch": 3, "args": argparse.Namespace(lr=0.1)}
    torch.save(tensors if part is None else {**beside, part: tensors}, tmp_path / f"saved{suffix}")
    _expect_as_without_wrapper(tmp_path / f"saved{suffix}", "timm")


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    tensors = {name: torch.from_numpy(tensor).bfloat16() for name, tensor in _tensors("timm").items()}
    save_torch_file(tensors, tmp_path / "half.safetensors")
    assert {tensor.dtype for tensor in zoo.read(tmp_path / "half.safetensors").model.state_dict().values()} == {
        torch.float32
    }


# --- files that are not what they should be ---


@pytest.mark.parametrize(
    ("start", "found"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "It is a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>Sign in", "It is a web page"),
    ],
    ids=["lfs", "web_page"],
)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_what_is_not_the_file_itself_is_told(tmp_path: Path, suffix: str, start: bytes, found: str) -> None:
    (tmp_path / f"weights{suffix}").write_bytes(start)
    with pytest.raises(
        CheckpointError, match=f"weights{suffix} cannot be read as {suffix}: {found}; expected the file"
    ):
        zoo.read(tmp_path / f"weights{suffix}")


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder; expected a file of weights"):
        zoo.read(tmp_path)


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        *(("google", name) for name in ("stem/kernel", "head/bias", "MixerBlock_1/LayerNorm_0/scale")),
        *(("google", f"MixerBlock_0/{mlp}/Dense_0/kernel") for mlp in ("token_mixing", "channel_mixing")),
        *(("timm", name) for name in ("stem.proj.weight", "norm.bias", "blocks.1.mlp_tokens.fc2.weight")),
    ],
)
def test_a_missing_tensor_is_named(tmp_path: Path, layout: str, name: str) -> None:
    tensors = _tensors(layout)
    del tensors[name]
    with pytest.raises(CheckpointError, match=f"{FILES[layout]} lacks the tensor '{name}' of the .* layout"):
        zoo.read(_write(tmp_path, layout, tensors))


@pytest.mark.parametrize(("layout", "block"), [("google", "MixerBlock_0"), ("timm", "blocks.0")])
def test_a_missing_block_is_named(tmp_path: Path, layout: str, block: str) -> None:
    tensors = {name: tensor for name, tensor in _tensors(layout).items() if not name.startswith(block)}
    with pytest.raises(CheckpointError, match=f"lacks the tensor '{block}"):
        zoo.read(_write(tmp_path, layout, tensors))


@pytest.mark.parametrize(
    ("layout", "name"), [("google", "pos_embedding"), ("timm", "stem.norm.weight"), ("timm", "blocks.0.extra")]
)
def test_an_extra_tensor_is_named(tmp_path: Path, layout: str, name: str) -> None:
    with pytest.raises(CheckpointError, match=f"{FILES[layout]} has the tensor '{name}', which the .* layout does not"):
        zoo.read(_write(tmp_path, layout, {**_tensors(layout), name: np.zeros(3, np.float32)}))


@pytest.mark.parametrize(
    ("layout", "name", "shape", "message"),
    [
        ("google", "stem/bias", (31,), r"'stem/bias' is \(31,\); expected \(32,\)"),
        ("google", "stem/kernel", (4, 5, 3, 32), r"'stem/kernel' is \(4, 5, 3, 32\); expected \(4, 4, 3, 32\)"),
        ("google", "head/kernel", (32, 7, 1), r"'head/kernel' is \(32, 7, 1\); expected \(32, 7\)"),
        ("timm", "blocks.1.mlp_tokens.fc1.weight", (16, 9), r"fc1.weight' is \(16, 9\); expected \(16, 16\)"),
        ("google", "stem/kernel", (48, 32), "has a tensor of unexpected rank for the Google layout"),
        ("google", "head/kernel", (32,), "has a tensor of unexpected rank for the Google layout"),
        ("timm", "stem.proj.weight", (32, 48), "has a tensor of unexpected rank for the timm layout"),
        ("timm", "blocks.0.mlp_tokens.fc1.weight", (16,), "has a tensor of unexpected rank for the timm layout"),
        ("google", "stem/kernel", (4, 4, 2, 32), "does not describe a Mixer: channels is 2; expected 1 or 3"),
        ("timm", "stem.proj.weight", (0, 3, 4, 4), "does not describe a Mixer: hidden_dim is 0"),
        ("google", "head/kernel", (32, 0), "does not describe a Mixer: num_classes is 0"),
        ("google", "MixerBlock_0/token_mixing/Dense_0/kernel", (15, 24), "mixes 15 patches; expected a square number"),
        ("timm", "blocks.0.mlp_tokens.fc1.weight", (16, 17), "mixes 17 patches; expected a square number"),
    ],
)
def test_a_misshapen_tensor_is_named(
    tmp_path: Path, layout: str, name: str, shape: tuple[int, ...], message: str
) -> None:
    tensors = {**_tensors(layout), name: np.zeros(shape, np.float32)}
    with pytest.raises(CheckpointError, match=f"{FILES[layout]}.*{message}"):
        zoo.read(_write(tmp_path, layout, tensors))


@pytest.mark.parametrize("name", ["weights.h5", "weights", "weights.npz.zip"])
def test_another_suffix_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"expected Google's \.npz or timm's \.safetensors"):
        zoo.read(tmp_path / name)


def _damaged_npz() -> bytes:
    """A compressed archive whose central directory is whole and whose first tensor is not."""
    file = io.BytesIO()
    np.savez_compressed(file, **_tensors("google"))
    content = bytearray(file.getvalue())
    start = content.index(b".npy") + len(b".npy") + 20  # past the local header's extra field
    content[start : start + 30] = b"\xff" * 30
    return bytes(content)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".npz", b""),
        (".npz", b"garbage"),
        (".npz", b"PK\x03\x04 cut short"),
        (".npz", (VECTORS / FILES["google"]).read_bytes()[:3000]),
        (".npz", _damaged_npz()),
        (".safetensors", b""),
        (".safetensors", b"garbage of more than eight bytes"),
        (".safetensors", (VECTORS / FILES["timm"]).read_bytes()[:3000]),
    ],
    ids=["empty", "garbage", "zip_start", "zip_half", "zip_damaged", "empty", "garbage", "half"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"broken{suffix} cannot be read as {suffix}"):
        zoo.read(path)


def test_a_single_array_named_npz_is_named(tmp_path: Path) -> None:
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(CheckpointError, match=r"one.npz cannot be read as .npz"):
        zoo.read(tmp_path / "one.npz")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(CheckpointError, match=f"none{suffix} cannot be read"):
        zoo.read(tmp_path / f"none{suffix}")


def test_tensors_that_are_not_numbers_are_an_error(tmp_path: Path) -> None:
    tensors: dict[str, Any] = {**_tensors("google"), "stem/bias": np.array(["a"] * 32)}
    with pytest.raises(CheckpointError, match=r"cannot be read as .npz"):
        zoo.read(_write(tmp_path, "google", tensors))
