"""A network whose wide MLPs are sums of narrower ones, which suits a processor's cache. Knows nothing of ONNX.

Rows of 1024 floats, or of a multiple of that, begin a multiple of 4096 bytes apart and so map to the same set of the
first-level cache, which holds eight of them: a product that takes twelve rows at a time is a seventh slower.
The hidden layers of the paper's channel-mixing MLPs have such rows. docs/decisions/0009 has the figures.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from export.direct.parts import part_width
from model.network.mixer import MixerBlock, MlpBlock, MlpMixer


def split_wide_mlps(model: MlpMixer) -> MlpMixer:
    """A copy that gives the same answers, its channel-mixing MLPs in parts where their rows would collide."""
    copied = copy.deepcopy(model)
    for block in copied.blocks:
        assert isinstance(block, MixerBlock)  # noqa: S101 -- ModuleList forgets what it holds
        hidden_dim = copied.config.channels_mlp_dim
        if (width := part_width(hidden_dim)) < hidden_dim:
            block.register_module("channel_mixing", SplitMlp(block.channel_mixing, width))
    return copied


class SplitMlp(nn.Module):
    """An MLP whose hidden layer is computed a part at a time: [rows, dim] -> [rows, dim].

    Each part's second product is added to the sum so far in one Gemm, and its hidden rows are still in the cache.
    """

    def __init__(self, mlp: MlpBlock, width: int) -> None:
        super().__init__()
        self.gelu = mlp.gelu
        self.bias = nn.Parameter(mlp.dense_1.bias.detach().clone())
        self.first = nn.ModuleList(
            _dense(kernel, bias)
            for kernel, bias in zip(*(torch.split(t, width) for t in mlp.dense_0.parameters()), strict=True)
        )
        self.second = nn.ParameterList(
            nn.Parameter(kernel.detach().t().clone(memory_format=torch.contiguous_format))  # width dim
            for kernel in torch.split(mlp.dense_1.weight, width, dim=1)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Map [rows, dim] to [rows, dim]."""
        mixed: Tensor = self.bias  # dim
        for first, second in zip(self.first, self.second, strict=True):
            hidden = self.gelu(first(rows))  # rows width
            mixed = torch.addmm(mixed, hidden, cast(Tensor, second))  # rows dim
        return mixed


def _dense(kernel: Tensor, bias: Tensor) -> nn.Linear:
    """A dense layer of its own: kernel [N, K], bias [N]."""
    dense = nn.Linear(kernel.shape[1], kernel.shape[0])
    dense.weight.data, dense.bias.data = kernel.detach().clone(), bias.detach().clone()
    return dense
