"""A Mixer that says what its teacher sees: its maps at each token, its features, its logits. Knows no optimizer."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.distillation.head import label_shares
from model.network.mixer import MixerBlock, MlpMixer
from model.weights.config import MixerConfig


class Targets(NamedTuple):
    """What a batch of N views is to be told as, for a pupil of S tokens.

    middle: [N, S, K_m], late: [N, S, K_l] (Codes.targets at the tokens). features: [N, F], standardized.
    logits: [N, K], the teacher's. labels: [N, K], shares. labelled: [N], 1 where they hold, else 0.
    """

    middle: Tensor
    late: Tensor
    features: Tensor
    logits: Tensor
    labels: Tensor
    labelled: Tensor


class Weights(NamedTuple):
    """How much each part of the loss counts."""

    middle: float = 1.0
    late: float = 1.0
    features: float = 1.0
    logits: float = 0.5
    labels: float = 0.1
    unlabelled: float = 0.5


class Pupil(nn.Module):
    """The network, and a linear layer for each thing that the teacher shows; only the network is kept at the end."""

    def __init__(self, config: MixerConfig, middle: int, late: int, features: int) -> None:
        super().__init__()
        self.network = MlpMixer(config)
        self.middle_block = (config.num_blocks + 1) // 2
        self.middle_norm = nn.LayerNorm(config.hidden_dim)
        self.middle = nn.Linear(config.hidden_dim, middle)
        self.late = nn.Linear(config.hidden_dim, late)
        self.features = nn.Linear(config.hidden_dim, features)

    def forward(self, patches: Tensor, targets: Targets) -> tuple[Tensor, ...]:
        """The parts of the loss of patches [N, S, P*P*C] in 0..255, in the order of Weights."""
        network = self.network
        tokens = network.stem((patches - network.pixel_mean) / network.pixel_std)  # N S C
        middle = tokens
        for index, block in enumerate(network.blocks, start=1):
            tokens = block(tokens)  # N S C
            if index == self.middle_block:
                middle = tokens
        tokens = network.pre_head_layer_norm(tokens)
        pooled = tokens.mean(1)  # N C
        said = (self.middle(self.middle_norm(middle)), self.late(tokens), self.features(pooled))
        losses = [functional.mse_loss(a.float(), b) for a, b in zip(said, targets[:3], strict=True)]
        return *losses, *_label_losses(network.classify(pooled).float(), targets)


def _label_losses(logits: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """Divergence from the teacher and cross-entropy where labels are; distance from even odds where none are."""
    log_probabilities = logits.log_softmax(1)
    known, unknown = targets.labelled, 1 - targets.labelled
    divergence = functional.kl_div(log_probabilities, targets.logits.softmax(1), reduction="none").sum(1)
    entropy = -(targets.labels * log_probabilities).sum(1)
    even = -log_probabilities.mean(1)
    return (
        (divergence * known).sum() / known.sum().clamp(min=1),
        (entropy * known).sum() / known.sum().clamp(min=1),
        (even * unknown).sum() / unknown.sum().clamp(min=1),
    )


def at_tokens(maps: Tensor, grid: int) -> Tensor:
    """Maps [N, g, g, K] at grid x grid tokens: [N, grid * grid, K]."""
    size = maps.shape[1]
    if size == grid:
        return maps.flatten(1, 2)
    sized = functional.interpolate(
        maps.permute(0, 3, 1, 2), size=(grid, grid), mode="bilinear", antialias=size > grid, align_corners=False
    )
    return sized.flatten(2).transpose(1, 2)


def make_local(network: MlpMixer, sigma: float = 1.0, seed: int = 1) -> None:
    """Start token mixing near each token: a hidden unit's weights fall off with the distance from its own token.

    A Gaussian of `sigma` tokens; every row keeps its norm. In the spirit of impulse initialization (arXiv 2505.19985).
    """
    config = network.config
    side, generator = config.image_size // config.patch_size, torch.Generator().manual_seed(seed)
    line = torch.arange(side, dtype=torch.float32)
    places = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)  # S 2
    centers = places[torch.arange(config.tokens_mlp_dim) % config.num_patches]  # D_S 2
    near = torch.exp(-torch.cdist(centers, places).square() / (2 * sigma**2))  # D_S S
    with torch.no_grad():
        for mixing in (block.token_mixing for block in network.modules() if isinstance(block, MixerBlock)):
            for kernel, reach in ((mixing.dense_0.weight, near), (mixing.dense_1.weight, near.T)):
                drawn = torch.randn(kernel.shape, generator=generator) * reach
                norm = kernel.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
                kernel.copy_(drawn * norm)


def targets_of(  # the loop hands in a batch of Lessons' fields
    middle: Tensor, late: Tensor, features: Tensor, logits: Tensor, labels: Tensor, others: Tensor, shares: Tensor
) -> Targets:
    """Targets from maps that are at the tokens already, and labels int16 [N] with -1 for none."""
    labelled = ((labels >= 0) & (others >= 0)).float()
    return Targets(middle, late, features, logits, label_shares(labels, others, shares, logits.shape[1]), labelled)
