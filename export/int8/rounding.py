"""A kernel in signed bytes that are chosen together, so that their errors undo each other on real activations.

Rounding each weight to the nearest byte is best where activations are independent of each other. They are not: a few
directions have most of their energy. So rows are rounded one after the other, and what one loses in these directions,
the rows after it make up for (optimal brain quantization in a fixed order, as GPTQ has it, arXiv 2210.17323).
"""

import numpy as np
from numpy.typing import NDArray

from export.dense import Kernel
from export.int8.kernels import LARGEST, LARGEST_PAIR, kernel_scales

Moments = NDArray[np.float64]
"""Second moments [K, K] of a dense layer's inputs."""

_DAMPING = 0.02  # of the mean moment, on the diagonal: activations that were not seen count a little, too
_BLOCK = 128  # rows whose corrections are made one by one; further rows get those of a block at once


def round_together(kernel: Kernel, moments: Moments) -> tuple[NDArray[np.int8], Kernel]:
    """Signed bytes [K, N] and a scale for each column [N], as `quantize_kernel` gives them, for inputs with moments."""
    scale = kernel_scales(kernel)
    upper = _corrections(moments).astype(np.float32)  # K K
    left = np.ascontiguousarray(kernel / scale, np.float32)  # K N, in steps
    in_bytes = np.zeros(kernel.shape, np.int8)
    for start in range(0, len(kernel), _BLOCK):
        stop = min(start + _BLOCK, len(kernel))
        errors = np.zeros((stop - start, kernel.shape[1]), np.float32)
        for row in range(start, stop):
            in_bytes[row] = _bytes_of(left[row], in_bytes[row - 1] if row % 2 else None)
            errors[row - start] = (left[row] - in_bytes[row]) / upper[row, row]
            left[row + 1 : stop] -= np.outer(upper[row, row + 1 : stop], errors[row - start])
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return in_bytes, scale


def _corrections(moments: Moments) -> Moments:
    """The upper triangle [K, K] that says how much of a row's error each row after it makes up for."""
    mean = float(np.trace(moments)) / len(moments)
    damping = max(_DAMPING * mean, float(np.finfo(np.float32).tiny))
    damped = moments.copy()
    damped[np.diag_indices(len(moments))] += damping
    inverse = np.linalg.inv(damped)
    del damped
    inverse += inverse.T.copy()
    inverse /= 2
    return np.linalg.cholesky(inverse).T


def _bytes_of(row: NDArray[np.float32], before: NDArray[np.int8] | None) -> NDArray[np.int8]:
    """A row [N] in bytes; `before`: the other row of its pair, with which it fits 16 bits."""
    most = np.full(row.shape, LARGEST, np.int32)
    least = -most
    if before is not None:
        other = before.astype(np.int32)
        most = np.minimum(most, LARGEST_PAIR - np.maximum(other, 0))
        least = np.maximum(least, -LARGEST_PAIR - np.minimum(other, 0))
    return np.clip(np.rint(row), least, most).astype(np.int8)
