"""What products of bytes come to on this processor, found by its own kernels. Knows nothing of models.

x86 processors without VNNI add the products of two neighbouring rows of a kernel in 16 bits, which saturate without a
word: 255 x 127 + 255 x 127 becomes 32,767. export/quantize.py writes kernels whose pairs never get there. Whether that
is enough, too, only a product can tell: other instructions could pair other rows.

int8_probe.onnx beside this file is one product as the graphs have them: MatMulIntegerToFloat of uint8 [rows, 64], all
255, with a constant kernel [64, 32] of six kinds of columns.
"""

from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

PROBE = Path(__file__).with_name("int8_probe.onnx")
SIZE = 64  # rows of the kernel

Products = Literal["exact", "exact for pairs", "wrong"]
"""exact: of any bytes. exact for pairs: of kernels that are PAIRS_FIT_INT16. wrong: not even of those."""

_ANY, _PAIRED = (127, 127), ((127, 0), (0, 127), (-127, 0), (0, -127), (127, -127))
_ROWS = (1, 8)  # one row of activations has kernels of its own


def kernel() -> NDArray[np.int8]:
    """The kernel of the probe, int8 [64, 32]: its columns repeat one pair that saturates in 16 bits and five that fit.

    The five would saturate as well, if other rows than 2k and 2k + 1 were added.
    """
    columns = [np.tile(np.array(pair, np.int8), SIZE // 2) for pair in (_ANY, *_PAIRED)]
    return np.stack([columns[index % len(columns)] for index in range(32)], axis=1)


@cache
def probe() -> Products:
    """Multiply, and see. About 2 ms, once a process: a processor's instructions do not change."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(PROBE), options, providers=["CPUExecutionProvider"])
    return judge([_run(session, rows) for rows in _ROWS])


def judge(products: list[NDArray[np.float32]]) -> Products:
    """What the probe's products float32 [rows, 32] say."""
    expected = 255.0 * kernel().astype(np.float32).sum(axis=0)
    right = np.logical_and.reduce([(found == expected).all(axis=0) for found in products])
    if right.all():
        return "exact"
    kinds = np.arange(len(right)) % (1 + len(_PAIRED))
    return "exact for pairs" if right[kinds != 0].all() else "wrong"


def _run(session: Any, rows: int) -> NDArray[np.float32]:
    (products,) = session.run(None, {"bytes": np.full((rows, SIZE), 255, np.uint8)})
    return np.asarray(products, np.float32)
