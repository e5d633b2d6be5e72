"""The MLP-Mixer (arXiv 2105.01601, section 2) as a torch module. Knows nothing of training or files.

Shapes: N pictures, H x W pixels, C_in channels, P patch size, S = (H / P) * (W / P) patches, C hidden_dim,
D_S tokens_mlp_dim, D_C channels_mlp_dim, D_H head_hidden_dim, K classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.preprocess import patchify
from model.weights.config import LAYER_NORM_EPS, GeluFlavour, MixerConfig

_STD_WITHIN_TWO = 0.87962566103423978  # standard deviation of a standard normal truncated at two of them


class MlpBlock(nn.Module):
    """Two linear layers with a GELU between them, over the last axis: [..., dim] -> [..., dim]."""

    def __init__(self, dim: int, mlp_dim: int, gelu: GeluFlavour) -> None:
        super().__init__()
        self.dense_0 = nn.Linear(dim, mlp_dim)
        self.gelu = nn.GELU(approximate="tanh" if gelu == "tanh" else "none")
        self.dense_1 = nn.Linear(mlp_dim, dim)

    def forward(self, activations: Tensor) -> Tensor:
        """Map [..., dim] to [..., dim]."""
        hidden = self.gelu(self.dense_0(activations))  # ... mlp_dim
        return self.dense_1(hidden)  # type: ignore[no-any-return]  # ... dim


class MixerBlock(nn.Module):
    """Mix across patches, then across channels, each with layer norm before and a skip connection around."""

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.layer_norm_0 = nn.LayerNorm(config.hidden_dim, eps=LAYER_NORM_EPS)
        self.token_mixing = MlpBlock(config.num_patches, config.tokens_mlp_dim, config.gelu)
        self.layer_norm_1 = nn.LayerNorm(config.hidden_dim, eps=LAYER_NORM_EPS)
        self.channel_mixing = MlpBlock(config.hidden_dim, config.channels_mlp_dim, config.gelu)

    def forward(self, tokens: Tensor, branch_scales: Tensor | None = None) -> Tensor:
        """Map tokens [N, S, C] to tokens [N, S, C]; branch_scales [2, N, 1, 1] weighs the two branches."""
        columns = self.layer_norm_0(tokens).transpose(1, 2)  # N C S
        mixed = self.token_mixing(columns).transpose(1, 2)  # N S C
        tokens = tokens + (mixed if branch_scales is None else mixed * branch_scales[0])  # N S C
        mixed = self.channel_mixing(self.layer_norm_1(tokens))  # N S C
        return tokens + (mixed if branch_scales is None else mixed * branch_scales[1])  # type: ignore[no-any-return]  # N S C


class MlpMixer(nn.Module):
    """Per-patch linear stem, mixer blocks, layer norm, mean over patches, linear head. No position embedding.

    With head_hidden_dim, which the paper has not, a hidden layer and a GELU come before the linear head.
    """

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Linear(config.patch_dim, config.hidden_dim)
        self.blocks = nn.ModuleList(MixerBlock(config) for _ in range(config.num_blocks))
        self.pre_head_layer_norm = nn.LayerNorm(config.hidden_dim, eps=LAYER_NORM_EPS)
        if config.head_hidden_dim:
            self.head_hidden = nn.Linear(config.hidden_dim, config.head_hidden_dim)
        self.head = nn.Linear(config.head_hidden_dim or config.hidden_dim, config.num_classes)
        repeats = config.patch_dim // config.channels
        for name, values in (("pixel_mean", config.pixel_mean), ("pixel_std", config.pixel_std)):
            per_channel = torch.tensor(values, dtype=torch.float32).expand(config.channels)  # C_in
            self.register_buffer(name, per_channel.repeat(repeats), persistent=False)  # P*P*C_in
        self._initialise()

    pixel_mean: Tensor
    pixel_std: Tensor

    def _initialise(self) -> None:
        """Lecun-normal kernels, zero biases, zero head: the defaults of flax, as the paper's code has them."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _lecun_normal(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.head.weight)

    def forward(self, images: Tensor, branch_scales: Tensor | None = None) -> Tensor:
        """Logits [N, K] of images [N, H, W, C_in]: uint8 or float pixels in 0..255, RGB or grey.

        branch_scales [blocks, 2, N, 1, 1] weighs every residual branch for every picture: stochastic depth while
        training (`stochastic_depth`), nothing otherwise.
        """
        return self.classify(self.embed(patchify(images, self.config.patch_size), branch_scales))

    def embed(self, patches: Tensor, branch_scales: Tensor | None = None) -> Tensor:
        """Pre-logits [N, C] of patches [N, S, P*P*C_in]: uint8 or float pixels in 0..255."""
        return self.mix(self.stem((patches.float() - self.pixel_mean) / self.pixel_std), branch_scales)

    def mix(self, tokens: Tensor, branch_scales: Tensor | None = None) -> Tensor:
        """Pre-logits [N, C] of tokens [N, S, C]: what follows the stem."""
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, None if branch_scales is None else branch_scales[index])  # N S C
        return self.pre_head_layer_norm(tokens).mean(dim=1)  # type: ignore[no-any-return]  # N C

    def classify(self, pre_logits: Tensor) -> Tensor:
        """Logits [N, K] of pre-logits [N, C]."""
        if self.config.head_hidden_dim:
            approximate = "tanh" if self.config.gelu == "tanh" else "none"
            pre_logits = functional.gelu(self.head_hidden(pre_logits), approximate=approximate)  # N D_H
        return self.head(pre_logits)  # type: ignore[no-any-return]

    def folded_stem(self, centre: float = 0.0) -> nn.Linear:
        """The stem with the input's normalization folded in: raw pixels less `centre` in, the same tokens out.

        stem((x - mean) / std) = (W / std) (x - centre) + b - (W / std) (mean - centre).
        """
        folded = nn.Linear(self.config.patch_dim, self.config.hidden_dim)
        scaled = self.stem.weight.detach().double() / self.pixel_std.double()  # C P*P*C_in
        folded.weight.data = scaled.float()
        shift = scaled @ (self.pixel_mean.double() - centre)  # C
        folded.bias.data = (self.stem.bias.detach().double() - shift).float()
        return folded


def _lecun_normal(kernel: Tensor) -> None:
    """Fill [out, in] from a normal truncated at two standard deviations, of std 1/sqrt(in) after truncation."""
    std = kernel.shape[1] ** -0.5 / _STD_WITHIN_TWO
    nn.init.trunc_normal_(kernel, std=std, a=-2 * std, b=2 * std)


def stochastic_depth(uniform: Tensor, rate: float) -> Tensor:
    """Scales for every residual branch and picture (arXiv 1603.09382): 0 for a dropped branch.

    The others are scaled up by 1 / (1 - rate), so that the mean stays and evaluation needs no factor. big_vision's
    Mixer, from which the rates are, leaves the others as they are.

    uniform: [N, blocks, 2] in [0, 1). The rate rises linearly from 0 at the first block to `rate` at the last.
    Returns: [blocks, 2, N, 1, 1].
    """
    num_blocks = uniform.shape[1]
    rates = torch.linspace(0, rate, num_blocks, device=uniform.device) if num_blocks > 1 else uniform.new_zeros(1)
    dropped = uniform < rates[:, None]  # N blocks 2
    scales = torch.where(dropped, 0.0, 1 / (1 - rates[:, None]))  # N blocks 2
    return scales.permute(1, 2, 0)[..., None, None]  # blocks 2 N 1 1


def num_parameters(config: MixerConfig) -> int:
    """How many trainable numbers a Mixer of these sizes has, without building it."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in MlpMixer(config).parameters())
