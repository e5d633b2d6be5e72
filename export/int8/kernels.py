"""A dense layer's kernel in signed bytes whose products are exact on every processor. Knows nothing of graphs.

Processors without VNNI multiply bytes by VPMADDUBSW, which adds the products of two neighbouring rows of a kernel into
a signed 16-bit number and saturates. Kernels are therefore scaled so that no such sum exceeds it: products are exact,
and the same, on both kinds of processor (docs/decisions/0014).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.dense import Kernel

LARGEST = 127  # of a byte of a kernel
LARGEST_PAIR = 32767 // 255  # of two neighbouring bytes of one sign together, as an activation's byte may be 255
_BEFORE_ROUNDING = LARGEST_PAIR - 1  # once both are rounded up, they are one more


def quantize_kernel(kernel: Kernel) -> tuple[NDArray[np.int8], Kernel]:
    """Signed bytes [K, N] and a scale for each column [N]; their product approximates the kernel, and zero stays zero.

    The products of rows 2k and 2k + 1 fit 16 bits together: see `pairs_fit_int16`.
    """
    scale = kernel_scales(kernel)
    return np.rint(kernel / scale).astype(np.int8), scale


def kernel_scales(kernel: Kernel) -> Kernel:
    """The smallest scale [N] for each column of a kernel [K, N] with which its bytes fit, alone and in pairs."""
    largest = np.maximum(np.abs(kernel).max(axis=0) / LARGEST, _pair_sums(kernel).max(axis=0) / _BEFORE_ROUNDING)
    scale: Kernel = np.maximum(largest, np.finfo(np.float32).tiny).astype(np.float32)
    return scale


def pairs_fit_int16(kernel: NDArray[np.int8]) -> bool:
    """Whether no activations (0..255) times rows 2k and 2k + 1 of a kernel [K, N] exceed 16 bits in sum."""
    return bool((_pair_sums(kernel.astype(np.int32)) <= LARGEST_PAIR).all())


def _pair_sums(kernel: NDArray[Any]) -> NDArray[Any]:
    """The larger of the positive and the negative sum in rows 2k and 2k + 1: [K, N] -> [K / 2, N]."""
    even = np.pad(np.ascontiguousarray(kernel), ((0, len(kernel) % 2), (0, 0)))  # K N, K even
    pairs = even.reshape(-1, 2, kernel.shape[1])  # K/2 2 N
    sums: NDArray[Any] = np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1))
    return sums
