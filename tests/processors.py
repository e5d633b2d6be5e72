"""Processors of other kinds: what they compute, emulated in NumPy, and a test's code run as on one of them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from app.system.cpu_limits import int8_instructions

Product = Callable[[NDArray[np.uint8], NDArray[np.int8]], NDArray[np.int32]]

ROOT = Path(__file__).parent.parent
_LOWEST, _HIGHEST = -(1 << 15), (1 << 15) - 1
_QEMU = shutil.which("qemu-x86_64")
_QEMUS_OWN = "qemu-x86_64: warning:"
# qemu 7.2 computes some of NumPy's AVX2 loops wrongly, such as maxima of strided arrays; they are right on processors.
_NUMPY_AS_QEMU_NEEDS_IT = {"NPY_DISABLE_CPU_FEATURES": "X86_V3"}

needs_qemu = pytest.mark.skipif(
    _QEMU is None or int8_instructions() != "avx512_vnni",
    reason="needs a processor with VNNI, and qemu-user to emulate one without",
)


def exact_product(first: NDArray[np.uint8], second: NDArray[np.int8]) -> NDArray[np.int32]:
    """uint8 [M, K] times int8 [K, N] -> int32 [M, N]."""
    return np.rint(first.astype(np.float64) @ second.astype(np.float64)).astype(np.int32)


def product_in_int16_pairs(first: NDArray[np.uint8], second: NDArray[np.int8]) -> NDArray[np.int32]:
    """uint8 [M, K] times int8 [K, N] -> int32 [M, N], as by VPMADDUBSW: rows 2k and 2k + 1 add up in 16 bits.

    The sum of such a pair saturates; those of the pairs are added in 32 bits.
    """
    odd = first.shape[1] % 2
    left = np.pad(first, ((0, 0), (0, odd))).astype(np.int32)  # M K
    right = np.pad(second, ((0, odd), (0, 0))).astype(np.int32)  # K N
    product = np.zeros((len(left), right.shape[1]), np.int32)
    for row in range(0, len(right), 2):
        pair = left[:, row, None] * right[row] + left[:, row + 1, None] * right[row + 1]  # M N
        product += pair.clip(_LOWEST, _HIGHEST)
    return product


def int8_logits(graph: onnx.ModelProto, patches: NDArray[np.uint8], product: Product) -> NDArray[np.float32]:
    """Logits [n, K] of patches [n, S, P*P*C] by an int8 graph of export; `product` multiplies its bytes."""

    class MatMulIntegerToFloat(OpRun):
        op_domain = "com.microsoft"

        def _run(self, *inputs: Any) -> tuple[Any]:
            first, second, scale, column_scale, zero_point, *zero_points_and_bias = inputs
            bias = zero_points_and_bias[1] if zero_points_and_bias else np.float32(0)
            products = product(first, second) - int(zero_point) * second.astype(np.int32).sum(axis=0)
            return ((products * (scale * column_scale) + bias).astype(np.float32),)

    evaluator = ReferenceEvaluator(graph, new_ops=[MatMulIntegerToFloat])
    (logits,) = evaluator.run(["logits"], {"patches": patches})
    return np.asarray(logits, np.float32)


def as_avx2_only(script: str, *arguments: str) -> str:
    """What a Python script prints on an emulated processor with AVX2, without AVX-512 and VNNI.

    /proc/cpuinfo is still that of this machine.
    """
    assert _QEMU is not None, "tests that call this are marked with needs_qemu"
    command = [_QEMU, "-cpu", "EPYC", sys.executable, "-c", script, *arguments]
    environment = {**os.environ, **_NUMPY_AS_QEMU_NEEDS_IT}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1000, check=False
    )
    told = [line for line in ended.stderr.splitlines() if not line.startswith(_QEMUS_OWN)]
    assert ended.returncode == 0, "\n".join(told)
    return ended.stdout
