"""An MLP-Mixer in plain NumPy, straight off the tensors of a public file: what torch and the service are held to.

Written from arXiv 2105.01601 and the two layouts alone, in float64. Knows nothing of the project's own code.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Tensors = Mapping[str, Array]
Pair = tuple[Array, Array]  # a kernel (in, out) or a scale, and its bias
Block = tuple[Pair, Pair, Pair, Pair, Pair, Pair]  # norm, two token-mixing layers, norm, two channel-mixing layers

_EPS = 1e-6
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(28)


def google_logits(tensors: Tensors, images: Array) -> Array:
    """Logits [N, K] of normalised images [N, H, W, C_in] by Google's tensors: Dense kernels (in, out), tanh GELU."""

    def dense(name: str) -> Pair:
        return tensors[f"{name}/kernel"], tensors[f"{name}/bias"]

    def norm(name: str) -> Pair:
        return tensors[f"{name}/scale"], tensors[f"{name}/bias"]

    def block(index: int) -> Block:
        name = f"MixerBlock_{index}"
        tokens, channels = f"{name}/token_mixing", f"{name}/channel_mixing"
        return (
            norm(f"{name}/LayerNorm_0"), dense(f"{tokens}/Dense_0"), dense(f"{tokens}/Dense_1"),
            norm(f"{name}/LayerNorm_1"), dense(f"{channels}/Dense_0"), dense(f"{channels}/Dense_1"),
        )  # fmt: skip

    kernel, bias = dense("stem")  # row column channel out
    tokens = np.tensordot(_patches(images, len(kernel)), kernel, axes=((3, 4, 5), (0, 1, 2))) + bias
    blocks = (block(index) for index in range(_count(tensors, "MixerBlock_{}/LayerNorm_0/scale")))
    return _mixed(tokens, blocks, norm("pre_head_layer_norm"), dense("head"), _tanh_gelu)


def timm_logits(tensors: Tensors, images: Array) -> Array:
    """Logits [N, K] of normalised images [N, H, W, C_in] by timm's tensors: Linear weights (out, in), erf GELU."""

    def linear(name: str) -> Pair:
        return tensors[f"{name}.weight"].T, tensors[f"{name}.bias"]

    def norm(name: str) -> Pair:
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def block(index: int) -> Block:
        name = f"blocks.{index}"
        tokens, channels = f"{name}.mlp_tokens", f"{name}.mlp_channels"
        return (
            norm(f"{name}.norm1"), linear(f"{tokens}.fc1"), linear(f"{tokens}.fc2"),
            norm(f"{name}.norm2"), linear(f"{channels}.fc1"), linear(f"{channels}.fc2"),
        )  # fmt: skip

    weight = tensors["stem.proj.weight"]  # out channel row column
    patches = _patches(images, weight.shape[-1])
    tokens = np.tensordot(patches, weight, axes=((3, 4, 5), (2, 3, 1))) + tensors["stem.proj.bias"]
    blocks = (block(index) for index in range(_count(tensors, "blocks.{}.norm1.weight")))
    return _mixed(tokens, blocks, norm("norm"), linear("head"), _erf_gelu)


def softmax(logits: Array) -> Array:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def erf(x: Array) -> Array:
    """The error function, by Gauss's quadrature of its integral from 0 to x; good to 1e-12."""
    x = x.clip(-6, 6)  # beyond which it is 1 to the last bit
    total = np.zeros_like(x)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        total += weight * np.exp(-np.square(x * ((node + 1) / 2)))
    return x / np.sqrt(np.pi) * total


def _patches(images: Array, size: int) -> Array:
    """[N, H, W, C_in] -> [N, rows, columns, size, size, C_in]."""
    count, height, width, channels = images.shape
    cut = images.astype(np.float64).reshape(count, height // size, size, width // size, size, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5)


def _mixed(
    tokens: Array, blocks: Iterable[Block], last_norm: Pair, head: Pair, gelu: Callable[[Array], Array]
) -> Array:
    count, rows, columns, hidden = tokens.shape
    tokens = tokens.reshape(count, rows * columns, hidden)
    for norm_0, tokens_in, tokens_out, norm_1, channels_in, channels_out in blocks:
        across = _normalised(tokens, norm_0).transpose(0, 2, 1)  # N C S
        tokens = tokens + _affine(gelu(_affine(across, tokens_in)), tokens_out).transpose(0, 2, 1)
        along = _normalised(tokens, norm_1)  # N S C
        tokens = tokens + _affine(gelu(_affine(along, channels_in)), channels_out)
    return _affine(_normalised(tokens, last_norm).mean(axis=1), head)


def _affine(activations: Array, layer: Pair) -> Array:
    kernel, bias = layer
    return activations @ kernel.astype(np.float64) + bias


def _normalised(activations: Array, norm: Pair) -> Array:
    scale, bias = norm
    centred = activations - activations.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + _EPS) * scale + bias


def _tanh_gelu(x: Array) -> Array:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _erf_gelu(x: Array) -> Array:
    return x / 2 * (1 + erf(x / np.sqrt(2)))


def _count(tensors: Tensors, name: str) -> int:
    """How many blocks have a tensor of that name."""
    index = 0
    while name.format(index) in tensors:
        index += 1
    return index
