"""timm's layout holds the same network: by a forward pass in NumPy, by our reader, and by timm where it is there."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from export.outgoing.timm_layout import (
    ENTRY_POINT,
    model_args,
    needs_entry_point,
    timm_config,
    timm_tensors,
    transform_notes,
    write_layout,
)
from model.network import zoo
from model.network.checkpoint import Checkpoint, torch_logits
from model.network.checkpoint_folder import WEIGHTS
from model.network.mixer import MlpMixer
from model.preprocess import Pixels, to_square
from model.spec import Fit, FitMode, Interpolation
from model.weights.config import VARIANTS, MixerConfig
from tests.export.outgoing.timm_judge import import_timm, load
from tests.export.toy_checkpoints import noise, toy_checkpoint
from tests.numpy_mixer import timm_logits


def changed(checkpoint: Checkpoint, **changes: Any) -> Checkpoint:
    """The same weights under another configuration."""
    model = MlpMixer(replace(checkpoint.model.config, **changes)).eval()
    model.load_state_dict(checkpoint.model.state_dict())
    return replace(checkpoint, model=model)


def exact(channels: int = 3) -> Checkpoint:
    """Its GELU is timm's own, and its channels are scaled each otherwise."""
    scale = {"pixel_mean": (100.0, 120.0, 90.0)[:channels], "pixel_std": (50.0, 60.0, 70.0)[:channels]}
    return changed(toy_checkpoint(channels), gelu="erf", **scale)


def normalised(checkpoint: Checkpoint, pixels: Pixels) -> np.ndarray:
    """Float64 [n, H, W, C], as pretrained_cfg says."""
    cfg = timm_config(checkpoint)["pretrained_cfg"]
    return (pixels / 255 - np.array(cfg["mean"])) / np.array(cfg["std"])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_forward_pass_in_numpy_over_the_file_gives_the_same_logits(tmp_path: Path, channels: int):
    checkpoint, pixels = exact(channels), noise(8, channels)
    write_layout(checkpoint, tmp_path)
    found = timm_logits(load_file(tmp_path / WEIGHTS), normalised(checkpoint, pixels))
    np.testing.assert_allclose(found, torch_logits(checkpoint.model, pixels), rtol=0, atol=1e-5)


def test_what_is_written_is_read_back_bit_by_bit(tmp_path: Path):
    checkpoint = exact()
    write_layout(checkpoint, tmp_path)
    found = zoo.read(tmp_path / WEIGHTS).model.state_dict()
    for name, tensor in checkpoint.model.state_dict().items():
        assert torch.equal(found[name], tensor), name


def test_who_may_read_a_new_file_may_read_the_weights(tmp_path: Path):
    write_layout(exact(), tmp_path)
    (tmp_path / "new").write_text("")
    assert (tmp_path / WEIGHTS).stat().st_mode == (tmp_path / "new").stat().st_mode


def test_the_config_tells_what_the_weights_do_not():
    config = timm_config(exact())
    assert config["label_names"] == ["north", "east", "south", "west"]
    assert config["num_classes"] == 4
    cfg = config["pretrained_cfg"]
    assert cfg["input_size"] == [3, 12, 12]
    assert cfg["mean"] == [100 / 255, 120 / 255, 90 / 255]
    assert cfg["std"] == [50 / 255, 60 / 255, 70 / 255]
    assert json.loads(json.dumps(config)) == config


@pytest.mark.parametrize(
    ("fit", "crop_mode", "crop_pct"),
    [
        (Fit(mode="crop", crop_percentage=0.875), "center", 0.875),
        (Fit(mode="stretch", crop_percentage=0.5), "squash", 1.0),
        (Fit(mode="pad"), "border", 1.0),
    ],
)
def test_each_fit_has_the_crop_mode_that_is_nearest(fit: Fit, crop_mode: str, crop_pct: float):
    cfg = timm_config(toy_checkpoint(fit=fit))["pretrained_cfg"]
    assert (cfg["crop_mode"], cfg["crop_pct"]) == (crop_mode, crop_pct)


@pytest.mark.parametrize(
    ("fit", "channels", "words"),
    [
        (Fit(mode="stretch"), 3, ()),
        (Fit(mode="crop"), 3, ("crops",)),
        (Fit(mode="pad"), 3, ("pads with the mean color",)),
        (Fit(mode="stretch", background="dark"), 3, ("exchange light and dark",)),
        (Fit(mode="stretch"), 1, ("make them grey",)),
    ],
)
def test_what_has_no_equal_in_timm_is_told(fit: Fit, channels: int, words: tuple[str, ...]):
    notes = transform_notes(toy_checkpoint(channels, fit=fit).spec)
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))


@pytest.mark.parametrize(("name", "expected"), [("S/16", "mixer_s16_224"), ("B/32", "mixer_b32_224")])
def test_the_papers_variants_with_the_exact_gelu_need_no_code(name: str, expected: str):
    config = replace(VARIANTS[name], gelu="erf")
    assert not needs_entry_point(config)
    with torch.device("meta"):
        model = MlpMixer(config)
    found = timm_config(replace(toy_checkpoint(), model=model))
    assert found["architecture"] == expected
    assert set(found["model_args"]) == {"img_size", "in_chans", "mlp_ratio"}


@pytest.mark.parametrize("changes", [{"gelu": "tanh"}, {"num_blocks": 7}, {"patch_size": 8}, {"hidden_dim": 256}])
def test_any_other_network_brings_an_entry_point(changes: dict[str, Any]):
    assert needs_entry_point(replace(VARIANTS["S/16"], **{"gelu": "erf", **changes}))


def test_the_entry_point_goes_where_it_is_not_needed_any_more(tmp_path: Path):
    (tmp_path / ENTRY_POINT).write_text("an earlier one")
    model = MlpMixer(MixerConfig(32, 32, 512, 8, 4, 8, num_classes=4))
    write_layout(replace(toy_checkpoint(), model=model), tmp_path)
    assert not (tmp_path / ENTRY_POINT).exists()


@pytest.mark.parametrize("hidden_dim", [49, 97, 107, 512, 768])
def test_timm_makes_the_same_sizes_of_the_ratios(hidden_dim: int):
    for mlp_dim in range(1, 2000):
        ratios = model_args(MixerConfig(12, 4, hidden_dim, 1, mlp_dim, mlp_dim, num_classes=4))["mlp_ratio"]
        assert [int(ratio * hidden_dim) for ratio in ratios] == [mlp_dim, mlp_dim]


def test_the_weights_are_float32_whatever_they_were():
    checkpoint = toy_checkpoint()
    checkpoint.model.half()
    assert {tensor.dtype for tensor in timm_tensors(checkpoint).values()} == {torch.float32}


# --- timm itself, where it is installed (timm_judge.py) ---


@pytest.mark.parametrize("gelu", ["erf", "tanh"])
@pytest.mark.parametrize("channels", [1, 3])
def test_timm_gives_the_same_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gelu: str, channels: int):
    checkpoint, pixels = changed(exact(channels), gelu=gelu), noise(8, channels)
    write_layout(checkpoint, tmp_path)
    model, _ = load(tmp_path, monkeypatch)
    images = torch.from_numpy(normalised(checkpoint, pixels).transpose(0, 3, 1, 2)).float()
    with torch.inference_mode():
        found = model(images).numpy()
    np.testing.assert_allclose(found, torch_logits(checkpoint.model, pixels), rtol=0, atol=1e-5)


@pytest.mark.heavy
def test_timm_builds_a_variant_of_the_paper_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import_timm()
    torch.manual_seed(1)
    model = MlpMixer(replace(VARIANTS["S/32"], image_size=64, num_classes=4, gelu="erf")).eval()
    torch.nn.init.normal_(model.head.weight, std=0.05)
    spec = toy_checkpoint().spec.model_copy(update={"image_size": 64, "patch_size": 32})
    checkpoint = Checkpoint(model, spec)
    write_layout(checkpoint, tmp_path)
    assert not (tmp_path / ENTRY_POINT).exists()
    theirs, _ = load(tmp_path, monkeypatch)
    pixels = np.random.default_rng(2).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    images = torch.from_numpy(normalised(checkpoint, pixels).transpose(0, 3, 1, 2)).float()
    with torch.inference_mode():
        found = theirs(images).numpy()
    np.testing.assert_allclose(found, torch_logits(model, pixels), rtol=0, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("mode", "size", "most"),  # of a square they see the same; of others, what each makes of half a pixel
    [
        ("stretch", (40, 30), 0),
        ("stretch", (24, 24), 0),
        ("crop", (24, 24), 0),
        ("pad", (24, 24), 0),
        ("crop", (48, 24), 0),
        ("crop", (40, 29), 6),
    ],
)
def test_timm_sees_the_same_pixels(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interpolation: Interpolation,
    mode: FitMode,
    size: tuple[int, int],
    most: float,
):
    toy = exact()
    spec = toy.spec.model_copy(update={"fit": Fit(mode=mode), "interpolation": interpolation})
    checkpoint = replace(toy, spec=spec)
    write_layout(checkpoint, tmp_path)
    _, transform = load(tmp_path, monkeypatch)
    image = photograph(size)
    cfg = timm_config(checkpoint)["pretrained_cfg"]
    seen = transform(image).permute(1, 2, 0).numpy() * np.array(cfg["std"]) + np.array(cfg["mean"])
    ours = to_square(np.asarray(image), spec.image_size, spec.fit, spec.interpolation)
    assert np.abs(seen * 255 - ours).mean() <= most + 1e-3


def photograph(size: tuple[int, int]) -> Image.Image:
    """Smooth as photographs are: noise of 6x6 pixels, enlarged."""
    pixels = np.random.default_rng(3).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
