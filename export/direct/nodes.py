"""The nodes of a graph, one call each, and their constants. Knows operators, and no network.

A node and its output bear one name. Attributes are written as torch.onnx writes them, with the defaults among them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.direct.onnx_file import Constant
from model.weights.config import LAYER_NORM_EPS, GeluFlavour

_KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float16): TensorProto.FLOAT16}


class Nodes:
    """Nodes in order, large constants to be read later, and small ones that are shared by their values."""

    def __init__(self, dtype: type[np.floating[Any]]) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[Constant] = []
        self.small: dict[str, TensorProto] = {}
        self._dtype = np.dtype(dtype)

    def constant(self, name: str, shape: tuple[int, ...], read: Callable[[], NDArray[np.float32]]) -> str:
        """A constant in the graph's precision; `read` gives it as float32."""
        self.constants.append(
            Constant(name, _KINDS[self._dtype], shape, lambda: read().astype(self._dtype, copy=False))
        )
        return name

    def scalar(self, name: str, value: float) -> str:
        """One number in the graph's precision."""
        self.small[name] = numpy_helper.from_array(np.array(value, self._dtype), name)
        return name

    def cast(self, value: str, output: str, dtype: type[np.floating[Any]] | None = None) -> str:
        """The same numbers in another type; by default the graph's precision."""
        return self._add("Cast", [value], output, to=_KINDS[np.dtype(dtype or self._dtype)])

    def reshape(self, value: str, output: str, *shape: int) -> str:
        """-1 stands for what is left."""
        return self._add("Reshape", [value, self._integers("shape", shape)], output, allowzero=1)

    def transpose(self, value: str, output: str) -> str:
        """[N, A, B] -> [N, B, A]."""
        return self._add("Transpose", [value], output, perm=[0, 2, 1])

    def gemm(self, rows: str, kernel: str, bias: str, output: str, *, kernel_is_out_in: bool = True) -> str:
        """Rows [n, in] through a kernel (out, in) or (in, out), plus a bias [out] or an earlier sum [n, out]."""
        trans = int(kernel_is_out_in)
        return self._add("Gemm", [rows, kernel, bias], output, alpha=1.0, beta=1.0, transA=0, transB=trans)

    def matmul(self, value: str, kernel: str, output: str) -> str:
        """[..., in] through a kernel (in, out)."""
        return self._add("MatMul", [value, kernel], output)

    def add(self, left: str, right: str, output: str) -> str:
        """The sum."""
        return self._add("Add", [left, right], output)

    def subtract(self, left: str, right: str, output: str) -> str:
        """The difference."""
        return self._add("Sub", [left, right], output)

    def gelu(self, value: str, output: str, flavour: GeluFlavour) -> str:
        """GELU of every number."""
        return self._add("Gelu", [value], output, approximate="tanh" if flavour == "tanh" else "none")

    def layer_norm(self, value: str, scale: str, bias: str, output: str) -> str:
        """Over the last axis."""
        inputs = [value, scale, bias]
        return self._add("LayerNormalization", inputs, output, axis=-1, epsilon=LAYER_NORM_EPS, stash_type=1)

    def mean(self, value: str, output: str) -> str:
        """[N, A, B] -> [N, B]."""
        inputs = [value, self._integers("axes", (1,))]
        return self._add("ReduceMean", inputs, output, keepdims=0, noop_with_empty_axes=0)

    def _integers(self, kind: str, values: Sequence[int]) -> str:
        name = "_".join([kind, *(str(value).replace("-1", "rest") for value in values)])
        self.small[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name

    def _add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output
