"""Bytes that are chosen together undo each other's errors, and fit what every processor multiplies exactly."""

import numpy as np
import pytest
from numpy.typing import NDArray

from export.int8.kernels import kernel_scales, pairs_fit_int16, quantize_kernel
from export.int8.rounding import round_together

GENERATOR = np.random.default_rng(3)


def activations(count: int, depth: int) -> NDArray[np.float64]:
    """Rows [count, depth] that a few directions explain."""
    directions = GENERATOR.normal(size=(4, depth))
    return GENERATOR.normal(size=(count, 4)) @ directions + 0.1 * GENERATOR.normal(size=(count, depth))


@pytest.mark.parametrize("depth", [64, 300])
def test_products_with_such_activations_are_nearer_than_of_nearest_bytes(depth: int):
    rows, kernel = activations(500, depth), GENERATOR.normal(size=(depth, 7)).astype(np.float32)
    expected = rows @ kernel
    errors = []
    for in_bytes, scale in (round_together(kernel, rows.T @ rows), quantize_kernel(kernel)):
        errors.append(float(np.sqrt(((rows @ (in_bytes * scale) - expected) ** 2).mean())))
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("depth", [1, 2, 7, 300])
def test_bytes_fit_in_pairs(depth: int):
    rows, kernel = activations(50, depth), GENERATOR.standard_cauchy(size=(depth, 40)).astype(np.float32)
    in_bytes, scale = round_together(kernel, rows.T @ rows)
    assert (in_bytes.shape, in_bytes.dtype) == (kernel.shape, np.int8)
    assert in_bytes.min() >= -127
    assert pairs_fit_int16(in_bytes)
    np.testing.assert_array_equal(scale, kernel_scales(kernel))


def test_activations_that_know_nothing_of_each_other_give_nearest_bytes():
    kernel = GENERATOR.normal(size=(20, 6)).astype(np.float32)
    np.testing.assert_array_equal(round_together(kernel, np.eye(20))[0], quantize_kernel(kernel)[0])


@pytest.mark.parametrize("moments", [np.zeros((4, 4)), np.ones((4, 4)) * 1e12, np.diag([1.0, 0, 0, 0])])
def test_activations_that_say_little_do_no_harm(moments: NDArray[np.float64]):
    kernel = GENERATOR.normal(size=(4, 3)).astype(np.float32)
    in_bytes, scale = round_together(kernel, moments)
    assert (np.abs(in_bytes * scale - kernel) <= 2.6 * scale).all(), "a few steps at most"
