"""The peak of this processor: its fastest matrix product, by ONNX Runtime's kernels. Knows nothing of models.

Two graphs of one node lie beside this file, MatMul for float32 and MatMulInteger (uint8 x int8 -> int32); both
matrices are inputs, so that nothing is computed or packed ahead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cli.bench.stopwatch import Candidate

Number = Literal["float32", "int8"]

SIZES = (512, 1024, 2048)


@dataclass(frozen=True)
class Product:
    """One square matrix product of `size`, by `runs` side by side that have `threads` each."""

    number: Number
    size: int
    runs: int
    threads: int


def products(cpus: int, *, int8: bool, sizes: tuple[int, ...] = SIZES) -> list[Candidate[Product]]:
    """Every size in one run of all CPUs and in a run on each, in GFLOP/s (for int8, GOP/s)."""
    numbers = [number for number in get_args(Number) if number == "float32" or int8]
    candidates = []
    for number in numbers:
        for runs, threads in dict.fromkeys([(1, cpus), (cpus, 1)]):
            session = _session(number, threads)
            candidates += [_candidate(session, Product(number, size, runs, threads)) for size in sizes]
    return candidates


def graph_file(number: Number) -> Path:
    """The graph of one node."""
    return Path(__file__).with_name(f"matmul_{number}.onnx")


def _session(number: Number, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(graph_file(number)), options, providers=["CPUExecutionProvider"])


def _candidate(session: Any, product: Product) -> Candidate[Product]:
    matrices = _matrices(product.number, product.size)
    giga_operations = 2 * product.size**3 / 1e9

    def work() -> float:
        session.run(None, matrices)
        return giga_operations

    return Candidate(product, work, threads=product.runs)


def _matrices(number: Number, size: int) -> Mapping[str, NDArray[Any]]:
    generator = np.random.default_rng(size)
    if number == "float32":
        return {name: generator.normal(size=(size, size)).astype(np.float32) for name in "ab"}
    return {
        "a": generator.integers(0, 256, (size, size), dtype=np.uint8),
        "b": generator.integers(-128, 128, (size, size), dtype=np.int8),
    }
