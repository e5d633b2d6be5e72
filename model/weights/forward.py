"""The MLP-Mixer's forward pass in NumPy: the judge of graphs that are written without torch. Reads weights, no files.

Shapes as in model/network/mixer.py. A layer's weights are read when its turn comes, and dropped after it; MLPs take the
rows a block at a time, as their hidden layer is the largest array of all.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.polynomial import chebyshev

from model.preprocess import Pixels, patchify
from model.weights.config import LAYER_NORM_EPS, GeluFlavour
from model.weights.mixer_weights import MixerWeights
from model.weights.tensor_file import Array

_HIDDEN_BYTES = 1 << 20
_DEGREE = 9
_FAR = np.float32(6)  # where erf is 1, to the last bit
_SPAN = np.float32(0.75)  # of 1 / (1 + x / 2), for x from 0 to there


def forward(weights: MixerWeights, pixels: Pixels, *, hidden_bytes: int = _HIDDEN_BYTES) -> Array:
    """Logits float32 [N, K] of uint8 [N, H, W, C_in]. `hidden_bytes`: how large a block of hidden rows may be."""
    config = weights.config
    patches = patchify(np.ascontiguousarray(pixels), config.patch_size)  # N S P*P*C_in
    count, num_patches, patch_dim = patches.shape
    repeats = patch_dim // config.channels
    mean, std = (
        np.tile(np.broadcast_to(np.array(values, np.float32), config.channels), repeats)  # P*P*C_in
        for values in (config.pixel_mean, config.pixel_std)
    )
    rows = ((patches.reshape(-1, patch_dim) - mean) / std).astype(np.float32)  # N*S P*P*C_in
    tokens = _dense(rows, *_pair(weights, "stem"))  # N*S C
    for index in range(config.num_blocks):
        block = f"blocks.{index}"
        columns = _turned(_layer_norm(tokens, *_pair(weights, f"{block}.layer_norm_0")), count)  # N*C S
        mixed = _mlp(columns, weights, f"{block}.token_mixing", GELU[config.gelu], hidden_bytes)  # N*C S
        tokens += _turned(mixed, count)  # N*S C
        rows = _layer_norm(tokens, *_pair(weights, f"{block}.layer_norm_1"))  # N*S C
        tokens += _mlp(rows, weights, f"{block}.channel_mixing", GELU[config.gelu], hidden_bytes)  # N*S C
    tokens = _layer_norm(tokens, *_pair(weights, "pre_head_layer_norm"))
    pre_logits = tokens.reshape(count, num_patches, -1).mean(axis=1)  # N C
    if config.head_hidden_dim:
        pre_logits = GELU[config.gelu](_dense(pre_logits, *_pair(weights, "head_hidden")))  # N D_H
    return _dense(pre_logits, *_pair(weights, "head"))  # N K


def erf(values: Array) -> Array:
    """The error function of float32, good to 4e-7.

    For x > 0 it is 1 - exp(-x^2) f(x), where f is smooth: a polynomial in 1 / (2 + x).
    """
    size = np.minimum(np.abs(values), _FAR)
    place = 4 / _SPAN / (2 + size) - (2 - _SPAN) / _SPAN  # -1 where x is _FAR, 1 where it is 0
    rest = np.full_like(place, _REST[-1])
    for coefficient in _REST[-2::-1]:
        rest *= place
        rest += coefficient
    from_zero: Array = np.copysign(1 - np.exp(-np.square(size)) * rest, values)
    return from_zero


def erf_gelu(values: Array) -> Array:
    """x times the standard normal's distribution function."""
    return _half(values, erf(values * np.float32(math.sqrt(0.5))))


def tanh_gelu(values: Array) -> Array:
    """GELU by its approximation with tanh, jax.nn.gelu's default."""
    inner = values + np.float32(0.044715) * values * np.square(values)
    sign: Array = np.tanh(np.float32(math.sqrt(2 / math.pi)) * inner)
    return _half(values, sign)


def _half(values: Array, sign: Array) -> Array:
    """values * (1 + sign) / 2, in the memory of `sign`."""
    sign += 1
    sign *= values
    sign *= np.float32(0.5)
    return sign


def _layer_norm(rows: Array, scale: Array, bias: Array) -> Array:
    centred: Array = rows - rows.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    centred *= scale / np.sqrt(variance + np.float32(LAYER_NORM_EPS))
    centred += bias
    return centred


def _mlp(rows: Array, weights: MixerWeights, name: str, gelu: Callable[[Array], Array], hidden_bytes: int) -> Array:
    """[rows, dim] -> [rows, dim]."""
    kernel, bias = _pair(weights, f"{name}.dense_0")
    last_kernel, last_bias = _pair(weights, f"{name}.dense_1")
    mixed = np.empty_like(rows)
    block = max(1, hidden_bytes // (4 * len(kernel)))
    for start in range(0, len(rows), block):
        hidden = gelu(_dense(rows[start : start + block], kernel, bias))  # block mlp_dim
        mixed[start : start + block] = _dense(hidden, last_kernel, last_bias)
    return mixed


def _dense(rows: Array, kernel: Array, bias: Array) -> Array:
    product: Array = rows @ kernel.T
    product += bias
    return product


def _turned(rows: Array, count: int) -> Array:
    """The rows of each picture as columns, and back: [N*A, B] -> [N*B, A]."""
    pictures = rows.reshape(count, -1, rows.shape[1]).transpose(0, 2, 1)  # N B A
    return np.ascontiguousarray(pictures).reshape(-1, pictures.shape[2])


def _pair(weights: MixerWeights, layer: str) -> tuple[Array, Array]:
    """A layer's kernel or scale, and its bias."""
    return weights.tensors[f"{layer}.weight"].read(), weights.tensors[f"{layer}.bias"].read()


def _fitted() -> tuple[np.float32, ...]:
    """f(x) = erfc(x) exp(x^2) from 0 to _FAR as a polynomial of the place in erf, the lowest coefficient first."""
    places = chebyshev.chebpts1(_DEGREE + 1)
    sizes = 4 / (places * _SPAN + 2 - _SPAN) - 2
    rests = [math.erfc(size) * math.exp(size * size) for size in sizes]
    return tuple(np.float32(c) for c in chebyshev.cheb2poly(chebyshev.chebfit(places, rests, _DEGREE)))


_REST = _fitted()

GELU: Mapping[GeluFlavour, Callable[[Array], Array]] = {"erf": erf_gelu, "tanh": tanh_gelu}
