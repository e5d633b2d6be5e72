"""Toy checkpoints none of whose parameters is zero or one, and pictures that they have a clear opinion of."""

import numpy as np
import torch

from model.network.checkpoint import Checkpoint, torch_logits
from model.network.mixer import MlpMixer
from model.preprocess import Pixels
from model.spec import Fit, ModelSpec, Source
from model.weights.config import MixerConfig


def toy_checkpoint(
    channels: int = 3,
    images: Pixels | None = None,
    fit: Fit | None = None,
    channels_mlp_dim: int = 24,
    num_blocks: int = 2,
    head_hidden_dim: int = 0,
) -> Checkpoint:
    """Nine patches of 16 numbers for every channel, 16 hidden: what mixes them up does not go unseen."""
    torch.manual_seed(0)
    config = MixerConfig(
        image_size=12, patch_size=4, hidden_dim=16, num_blocks=num_blocks, tokens_mlp_dim=8,
        channels_mlp_dim=channels_mlp_dim, channels=channels, num_classes=4, gelu="tanh",
        pixel_mean=(100.0,) * channels, pixel_std=(50.0,) * channels, head_hidden_dim=head_hidden_dim,
    )  # fmt: skip
    model = MlpMixer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        model.head.weight.normal_()
    spec = ModelSpec(
        name="toy", image_size=12, patch_size=4, channels=channels, num_classes=4,
        labels=("north", "east", "south", "west"), source=Source(origin="test"), fit=fit or Fit(),
    )  # fmt: skip
    return Checkpoint(model, spec, {}, images)


def noise(count: int, channels: int = 3, seed: int = 1) -> Pixels:
    """Pictures uint8 [count, 12, 12, channels]."""
    return np.random.default_rng(seed).integers(0, 256, (count, 12, 12, channels), dtype=np.uint8)


def clear_images(model: MlpMixer, count: int = 40) -> Pixels:
    """For each of the four labels the noise whose best label it is by furthest: rounding gives it no other one.

    A random network is undecided about many a picture, and a quantised one then says something else by mere chance.
    """
    pixels = noise(50 * count, model.config.channels)
    logits = torch_logits(model, pixels)
    ranked, best = np.sort(logits, axis=1), logits.argmax(axis=1)
    order = np.argsort(ranked[:, -2] - ranked[:, -1])  # the clearest first
    return np.concatenate([pixels[order[best[order] == label][: count // 4]] for label in range(4)])
