"""A toy checkpoint with a head that is not zero."""

import torch

from model.checkpoint import Checkpoint
from model.mixer import MixerConfig, MlpMixer
from model.preprocess import Pixels
from model.spec import Fit, ModelSpec, Source


def toy_checkpoint(channels: int = 3, pictures: Pixels | None = None, fit: Fit | None = None) -> Checkpoint:
    torch.manual_seed(0)
    config = MixerConfig(
        image_size=12, patch_size=4, hidden_dim=16, num_blocks=2, tokens_mlp_dim=8, channels_mlp_dim=24,
        channels=channels, num_classes=4, gelu="tanh", pixel_mean=(100.0,) * channels, pixel_std=(50.0,) * channels,
    )  # fmt: skip
    model = MlpMixer(config).eval()
    torch.nn.init.normal_(model.head.weight)
    torch.nn.init.normal_(model.head.bias)
    spec = ModelSpec(
        name="toy", image_size=12, patch_size=4, channels=channels, num_classes=4,
        labels=("north", "east", "south", "west"), source=Source(origin="test"), fit=fit or Fit(),
    )  # fmt: skip
    return Checkpoint(model, spec, {}, pictures)
