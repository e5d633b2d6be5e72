"""A dense layer's kernel in signed bytes whose products are exact on every processor. Knows nothing of graphs.

Processors without VNNI multiply bytes by VPMADDUBSW, which adds the products of two neighbouring rows of a kernel into
a signed 16-bit number and saturates. Kernels are therefore scaled so that no such sum exceeds it: products are exact,
and the same, on both kinds of processor (docs/decisions/0014).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.dense import Kernel

_MOST = 127  # of a byte of a kernel
_MOST_OF_A_PAIR = 127  # of two neighbouring bytes of one sign together; 128 once both are rounded up
_INT16_PRODUCTS = 32767 // 255  # the most that such a sum may be, as every byte of an activation may be 255


def quantize_kernel(kernel: Kernel) -> tuple[NDArray[np.int8], Kernel]:
    """Signed bytes [K, N] and a scale for each column [N]; their product approximates the kernel, and zero stays zero.

    The products of rows 2k and 2k + 1 fit 16 bits together: see `pairs_fit_int16`.
    """
    largest = np.maximum(np.abs(kernel).max(axis=0) / _MOST, _pair_sums(kernel).max(axis=0) / _MOST_OF_A_PAIR)
    scale = np.maximum(largest, np.finfo(np.float32).tiny)
    return np.rint(kernel / scale).astype(np.int8), scale.astype(np.float32)


def pairs_fit_int16(kernel: NDArray[np.int8]) -> bool:
    """Whether no activations (0..255) times rows 2k and 2k + 1 of a kernel [K, N] exceed 16 bits in sum."""
    return bool((_pair_sums(kernel.astype(np.int32)) <= _INT16_PRODUCTS).all())


def _pair_sums(kernel: NDArray[Any]) -> NDArray[Any]:
    """The larger of the positive and the negative sum in rows 2k and 2k + 1: [K, N] -> [K / 2, N]."""
    even = np.pad(np.ascontiguousarray(kernel), ((0, len(kernel) % 2), (0, 0)))  # K N, K even
    pairs = even.reshape(-1, 2, kernel.shape[1])  # K/2 2 N
    sums: NDArray[Any] = np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1))
    return sums
