"""Networks with random weights, and the specs of their bundles."""

import torch
from torch import nn

from model.network.mixer import MlpMixer
from model.spec import ModelSpec, Network, Source
from model.weights.config import MixerConfig


def random_mixer(config: MixerConfig) -> MlpMixer:
    """The same weights every time, with a head that is not zero."""
    torch.manual_seed(0)
    model = MlpMixer(config).eval()
    nn.init.normal_(model.head.weight, std=config.hidden_dim**-0.5)
    return model


def spec_of(name: str, config: MixerConfig) -> ModelSpec:
    return ModelSpec(
        name=name,
        variant=name,
        image_size=config.image_size,
        patch_size=config.patch_size,
        channels=3,
        num_classes=config.num_classes,
        labels=tuple(map(str, range(config.num_classes))),
        network=Network(
            hidden_dim=config.hidden_dim,
            num_blocks=config.num_blocks,
            tokens_mlp_dim=config.tokens_mlp_dim,
            channels_mlp_dim=config.channels_mlp_dim,
        ),
        source=Source(origin="random weights"),
    )
