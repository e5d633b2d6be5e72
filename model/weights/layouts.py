"""How other code bases name and order a Mixer's tensors, and how each becomes ours.

Key layouts: google-research/vision_transformer `models_mixer.py`, timm `mlp_mixer.py`. Knows nothing of files.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.spec import Interpolation
from model.weights.config import GeluFlavour, MixerConfig


class Shaped(Protocol):
    """All that tells a network's sizes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a tensor, in memory or in a file."""


Tensors = Mapping[str, Shaped]


@dataclass(frozen=True)
class Entry:
    """One tensor of ours: its name and shape elsewhere, and the conversion to ours."""

    ours: str
    theirs: str
    shape: tuple[int, ...]
    convert: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda tensor: tensor


@dataclass(frozen=True)
class Layout:
    """How one code base names and orders a Mixer's tensors. `first`: the stem's tensor, whose name reveals a prefix."""

    name: str
    first: str
    gelu: GeluFlavour
    interpolation: Interpolation
    sizes: Callable[[Tensors], tuple[int, int, int, int, int, int, int]]
    entries: Callable[[MixerConfig], Iterator[Entry]]


# --- Google: Dense kernels are (in, out) -----------------------------------------------------------------------------


def _google_sizes(tensors: Tensors) -> tuple[int, int, int, int, int, int, int]:
    patch_size, _, channels, hidden = tensors["stem/kernel"].shape
    num_patches, tokens_mlp = tensors["MixerBlock_0/token_mixing/Dense_0/kernel"].shape
    _, channels_mlp = tensors["MixerBlock_0/channel_mixing/Dense_0/kernel"].shape
    return patch_size, channels, hidden, num_patches, tokens_mlp, channels_mlp, tensors["head/kernel"].shape[1]


def _google_entries(config: MixerConfig) -> Iterator[Entry]:
    patch, hidden, seen = config.patch_size, config.hidden_dim, config.num_patches
    stem = (patch, patch, config.channels, hidden)
    yield Entry("stem.weight", "stem/kernel", stem, lambda kernel: kernel.reshape(-1, hidden).T)
    yield Entry("stem.bias", "stem/bias", (hidden,))
    for index in range(config.num_blocks):
        ours, theirs = f"blocks.{index}", f"MixerBlock_{index}"
        for norm in (0, 1):
            yield Entry(f"{ours}.layer_norm_{norm}.weight", f"{theirs}/LayerNorm_{norm}/scale", (hidden,))
            yield Entry(f"{ours}.layer_norm_{norm}.bias", f"{theirs}/LayerNorm_{norm}/bias", (hidden,))
        for mlp, dim, mlp_dim in (
            ("token_mixing", seen, config.tokens_mlp_dim),
            ("channel_mixing", hidden, config.channels_mlp_dim),
        ):
            for dense, shape in ((0, (dim, mlp_dim)), (1, (mlp_dim, dim))):
                yield from _google_dense(f"{ours}.{mlp}.dense_{dense}", f"{theirs}/{mlp}/Dense_{dense}", shape)
    yield Entry("pre_head_layer_norm.weight", "pre_head_layer_norm/scale", (hidden,))
    yield Entry("pre_head_layer_norm.bias", "pre_head_layer_norm/bias", (hidden,))
    yield from _google_dense("head", "head", (hidden, config.num_classes))


def _google_dense(ours: str, theirs: str, shape: tuple[int, int]) -> Iterator[Entry]:
    yield Entry(f"{ours}.weight", f"{theirs}/kernel", shape, lambda kernel: kernel.T)
    yield Entry(f"{ours}.bias", f"{theirs}/bias", (shape[1],))


# --- timm: torch's own (out, in), the stem a convolution --------------------------------------------------------------


def _timm_sizes(tensors: Tensors) -> tuple[int, int, int, int, int, int, int]:
    hidden, channels, patch_size, _ = tensors["stem.proj.weight"].shape
    tokens_mlp, num_patches = tensors["blocks.0.mlp_tokens.fc1.weight"].shape
    channels_mlp, _ = tensors["blocks.0.mlp_channels.fc1.weight"].shape
    return patch_size, channels, hidden, num_patches, tokens_mlp, channels_mlp, tensors["head.weight"].shape[0]


def _timm_entries(config: MixerConfig) -> Iterator[Entry]:
    patch, hidden, seen = config.patch_size, config.hidden_dim, config.num_patches
    stem = (hidden, config.channels, patch, patch)
    yield Entry("stem.weight", "stem.proj.weight", stem, lambda w: w.transpose(0, 2, 3, 1).reshape(hidden, -1))
    yield Entry("stem.bias", "stem.proj.bias", (hidden,))
    for index in range(config.num_blocks):
        for ours, theirs in (("layer_norm_0", "norm1"), ("layer_norm_1", "norm2")):
            yield from _timm_pair(f"blocks.{index}.{ours}", f"blocks.{index}.{theirs}", (hidden,))
        for ours, theirs, dim, mlp_dim in (
            ("token_mixing", "mlp_tokens", seen, config.tokens_mlp_dim),
            ("channel_mixing", "mlp_channels", hidden, config.channels_mlp_dim),
        ):
            for dense, shape in ((0, (mlp_dim, dim)), (1, (dim, mlp_dim))):
                name = f"blocks.{index}.{theirs}.fc{dense + 1}"
                yield from _timm_pair(f"blocks.{index}.{ours}.dense_{dense}", name, shape)
    yield from _timm_pair("pre_head_layer_norm", "norm", (hidden,))
    yield from _timm_pair("head", "head", (config.num_classes, hidden))


def _timm_pair(ours: str, theirs: str, shape: tuple[int, ...]) -> Iterator[Entry]:
    yield Entry(f"{ours}.weight", f"{theirs}.weight", shape)
    yield Entry(f"{ours}.bias", f"{theirs}.bias", shape[:1])


GOOGLE = Layout("Google", "stem/kernel", "tanh", "bilinear", _google_sizes, _google_entries)
TIMM = Layout("timm", "stem.proj.weight", "erf", "bicubic", _timm_sizes, _timm_entries)
