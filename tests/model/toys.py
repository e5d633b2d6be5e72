"""Toy Mixers, pictures and folders: the smallest things that the tests of model/ can learn from."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.data.dataset import Dataset, ImageSet
from model.network.mixer import MlpMixer
from model.recipe import Recipe
from model.spec import ModelSpec, Source
from model.weights.config import MixerConfig


def toy_config(**changes: Any) -> MixerConfig:
    """A grey 8x8 Mixer of about three thousand parameters."""
    sizes: dict[str, Any] = {
        "image_size": 8,
        "patch_size": 4,
        "hidden_dim": 16,
        "num_blocks": 2,
        "tokens_mlp_dim": 8,
        "channels_mlp_dim": 32,
        "channels": 1,
        "num_classes": 2,
    }
    return MixerConfig(**{**sizes, **changes})


def toy_spec(**changes: Any) -> ModelSpec:
    """What fits toy_config()."""
    fields: dict[str, Any] = {
        "name": "toy",
        "image_size": 8,
        "patch_size": 4,
        "channels": 1,
        "num_classes": 2,
        "labels": ("light below", "light above"),
        "source": Source(origin="made for a test"),
    }
    return ModelSpec(**{**fields, **changes})


def random_mixer(config: MixerConfig, seed: int = 0) -> MlpMixer:
    """A Mixer none of whose parameters is zero or one, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    model = MlpMixer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return model


def random_pixels(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise: uint8 of `shape`."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def toy_images(count: int, seed: int) -> ImageSet:
    """Grey 8x8 noise whose upper half (label 1) or lower half (label 0) is lighter."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 2
    pixels = generator.integers(0, 128, (count, 8, 8, 1), dtype=np.uint8)
    pixels[labels == 1, :4] += 127
    pixels[labels == 0, 4:] += 127
    return ImageSet(pixels, labels)


def toy_dataset(fingerprint: str = "toy") -> Dataset:
    """40 pictures to learn from, 12 to judge by."""
    return Dataset(("light below", "light above"), toy_images(40, 1), toy_images(12, 2), None, fingerprint)


def toy_recipe(**changes: Any) -> Recipe:
    """Three epochs of three steps, with everything random switched on."""
    settings: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 16,
        "autocast": "off",
        "learning_rate": 1e-2,
        "warmup_epochs": 1.0,
        "flip": 0.5,
        "pad_crop": 1 / 8,
        "erase": 0.2,
        "stochastic_depth": 0.2,
    }
    return Recipe(**{**settings, **changes})


def write_image(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write uint8 [H, W] or [H, W, 3] losslessly, whatever the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_class(folder: Path, count: int, level: int) -> None:
    """`count` plain grey 8x8 pictures: level, level + 1, ..."""
    for index in range(count):
        write_image(folder / f"{index}.png", np.full((8, 8), level + index, dtype=np.uint8))


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """The IDX file of an array of unsigned bytes."""
    header = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_idx(folder: Path, split: str, images: NDArray[np.uint8], labels: Any, *, gz: bool = False) -> None:
    """`split` is "train" or "t10k"."""
    for kind, array in (("images-idx3", images), ("labels-idx1", np.asarray(labels, dtype=np.uint8))):
        content = idx_bytes(array)
        path = folder / f"{split}-{kind}-ubyte{'.gz' if gz else ''}"
        path.write_bytes(gzip.compress(content) if gz else content)
