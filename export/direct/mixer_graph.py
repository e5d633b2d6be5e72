"""A Mixer as a graph, node by node: the forms that export/to_onnx.py traces, from weights alone. Knows no file.

Why each form is as it is, RowGraph, HalfGraph and SplitMlp say.
"""

from collections.abc import Callable

import numpy as np
from onnx import GraphProto, TensorProto, helper

from export.direct.nodes import Nodes
from export.direct.onnx_file import Constant
from export.direct.parts import part_width
from export.graph import CENTRE, EMBEDDING, INPUT, LOGITS, Form
from model.weights.mixer_weights import MixerWeights
from model.weights.tensor_file import Array


def mixer_graph(weights: MixerWeights, form: Form) -> tuple[GraphProto, list[Constant]]:
    """The graph without its large constants, and these."""
    nodes = Nodes(np.float16 if form == "fp16" else np.float32)
    if form == "fp16":
        _Halves(weights, nodes).write()
    else:
        _Rows(weights, nodes, in_parts=form == "fp32").write()
    config = weights.config
    graph = helper.make_graph(
        nodes.nodes,
        "main_graph",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", config.num_patches, config.patch_dim])],
        [
            helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", config.num_classes]),
            helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", config.hidden_dim]),
        ],
        list(nodes.small.values()),
    )
    return graph, nodes.constants


class _Layers:
    """Layers by the names of their weights; each writes its constants and its nodes."""

    def __init__(self, weights: MixerWeights, nodes: Nodes) -> None:
        self.config, self.nodes = weights.config, nodes
        self._weights = weights
        self._last: tuple[str, Array] | None = None

    def tensor(self, name: str) -> str:
        """A tensor of the network as a constant."""
        stored = self._weights.tensors[name]
        return self.nodes.constant(name, stored.shape, stored.read)

    def layer_norm(self, value: str, name: str) -> str:
        return self.nodes.layer_norm(value, self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias"), name)

    def gemm(self, rows: str, name: str, output: str) -> str:
        """Rows [n, in] through the dense layer `name`."""
        return self.nodes.gemm(rows, self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias"), output)

    def head(self, embedding: str, output: str) -> str:
        """Embeddings [N, C] -> logits [N, K], through the hidden layer where there is one."""
        if self.config.head_hidden_dim:
            hidden = self.gemm(embedding, "head_hidden", "head_hidden")  # N D_H
            embedding = self.nodes.gelu(hidden, "head_gelu", self.config.gelu)
        return self.gemm(embedding, "head", output)

    def read(self, name: str) -> Array:
        """A tensor that is taken in several parts, one after the other."""
        if self._last is None or self._last[0] != name:
            self._last = (name, self._weights.tensors[name].read())
        return self._last[1]

    def part(self, name: str, of: str, shape: tuple[int, ...], take: Callable[[Array], Array]) -> str:
        """A constant that is made of the tensor `of`."""
        return self.nodes.constant(name, shape, lambda: take(self.read(of)))

    def folded_stem_bias(self, centre: float) -> str:
        """The stem's bias with the input's normalization folded in; the kernel's part is `scaled`."""
        return self.part(
            "stem.bias", "stem.weight", (self.config.hidden_dim,), lambda kernel: self._bias(kernel, centre)
        )

    def scaled(self, kernel: Array) -> Array:
        """The stem's kernel [C, P*P*C_in] for pixels in 0..255."""
        scaled: Array = (kernel.astype(np.float64) / self._of_pixels(self.config.pixel_std)).astype(np.float32)
        return scaled

    def _bias(self, kernel: Array, centre: float) -> Array:
        mean, std = self._of_pixels(self.config.pixel_mean), self._of_pixels(self.config.pixel_std)
        shift = (kernel.astype(np.float64) / std) @ (mean - centre)  # C
        bias: Array = (self._weights.tensors["stem.bias"].read() - shift).astype(np.float32)
        return bias

    def _of_pixels(self, values: tuple[float, ...]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """A value for each channel, for each number of a patch [P*P*C_in], rounded as the network has it."""
        per_channel = np.broadcast_to(np.array(values, np.float32), self.config.channels).astype(np.float64)
        return np.tile(per_channel, self.config.patch_dim // self.config.channels)


class _Rows(_Layers):
    """All tokens of a batch as the rows of one matrix: every dense layer is one Gemm."""

    def __init__(self, weights: MixerWeights, nodes: Nodes, *, in_parts: bool) -> None:
        super().__init__(weights, nodes)
        self._in_parts = in_parts

    def write(self) -> None:
        config, nodes = self.config, self.nodes
        num_patches, hidden = config.num_patches, config.hidden_dim
        rows = nodes.reshape(nodes.cast(INPUT, "floats"), "rows", -1, config.patch_dim)
        kernel = self.part("stem.weight", "stem.weight", (hidden, config.patch_dim), self.scaled)
        tokens = nodes.gemm(rows, kernel, self.folded_stem_bias(0.0), "stem")
        for index in range(config.num_blocks):
            name = f"blocks.{index}"
            columns = self._turned(self.layer_norm(tokens, f"{name}.layer_norm_0"), num_patches, hidden)
            mixed = self._turned(self._mlp(columns, f"{name}.token_mixing"), hidden, num_patches)
            tokens = nodes.add(tokens, mixed, f"{name}.tokens_0")
            rows = self.layer_norm(tokens, f"{name}.layer_norm_1")
            width = part_width(config.channels_mlp_dim) if self._in_parts else config.channels_mlp_dim
            mixing = f"{name}.channel_mixing"
            whole = width == config.channels_mlp_dim
            mixed = self._mlp(rows, mixing) if whole else self._split_mlp(rows, mixing, width)
            tokens = nodes.add(tokens, mixed, f"{name}.tokens_1")
        tokens = nodes.reshape(tokens, "tokens", -1, num_patches, hidden)
        embedding = nodes.mean(self.layer_norm(tokens, "pre_head_layer_norm"), EMBEDDING)
        self.head(embedding, LOGITS)

    def _turned(self, rows: str, height: int, width: int) -> str:
        """[N*height, width] -> [N*width, height]."""
        pictures = self.nodes.reshape(rows, f"{rows}.pictures", -1, height, width)
        return self.nodes.reshape(self.nodes.transpose(pictures, f"{rows}.turned"), f"{rows}.columns", -1, height)

    def _mlp(self, rows: str, name: str) -> str:
        hidden = self.gemm(rows, f"{name}.dense_0", f"{name}.dense_0")
        hidden = self.nodes.gelu(hidden, f"{name}.gelu", self.config.gelu)
        return self.gemm(hidden, f"{name}.dense_1", f"{name}.dense_1")

    def _split_mlp(self, rows: str, name: str, width: int) -> str:
        """The channel-mixing MLP with its hidden layer `width` at a time; the second product adds to the sum so far."""
        dim, starts = self.config.hidden_dim, range(0, self.config.channels_mlp_dim, width)
        first, second = f"{name}.dense_0", f"{name}.dense_1"
        mixed = self.tensor(f"{second}.bias")
        kernels = [self._rows_of(f"{first}.weight", start, (width, dim)) for start in starts]
        biases = [self._rows_of(f"{first}.bias", start, (width,)) for start in starts]
        last_kernels = [
            self.part(f"{second}.kernel.{start}", f"{second}.weight", (width, dim), _columns(start, width))
            for start in starts
        ]
        for part, (kernel, bias, last_kernel) in enumerate(zip(kernels, biases, last_kernels, strict=True)):
            hidden = self.nodes.gemm(rows, kernel, bias, f"{first}.{part}")
            hidden = self.nodes.gelu(hidden, f"{name}.gelu.{part}", self.config.gelu)
            mixed = self.nodes.gemm(hidden, last_kernel, mixed, f"{second}.{part}", kernel_is_out_in=False)
        return mixed

    def _rows_of(self, name: str, start: int, shape: tuple[int, ...]) -> str:
        return self.part(f"{name}.{start}", name, shape, lambda tensor: tensor[start : start + shape[0]])


class _Halves(_Layers):
    """The network as it is, in half precision, with float logits and embedding."""

    def write(self) -> None:
        config, nodes = self.config, self.nodes
        pixels = nodes.subtract(nodes.cast(INPUT, "halves"), nodes.scalar("centre", CENTRE), "centred")
        shape = (config.patch_dim, config.hidden_dim)
        kernel = self.part("stem.kernel", "stem.weight", shape, lambda stem: self.scaled(stem).T)
        product = nodes.matmul(pixels, kernel, "stem.product")
        tokens = nodes.add(product, self.folded_stem_bias(CENTRE), "stem")
        for index in range(config.num_blocks):
            name = f"blocks.{index}"
            normalized = self.layer_norm(tokens, f"{name}.layer_norm_0")
            columns = nodes.transpose(normalized, f"{name}.columns")
            mixed = nodes.transpose(self._mlp(columns, f"{name}.token_mixing"), f"{name}.mixed")
            tokens = nodes.add(tokens, mixed, f"{name}.tokens_0")
            mixed = self._mlp(self.layer_norm(tokens, f"{name}.layer_norm_1"), f"{name}.channel_mixing")
            tokens = nodes.add(tokens, mixed, f"{name}.tokens_1")
        embedding = nodes.mean(self.layer_norm(tokens, "pre_head_layer_norm"), "pre_logits")
        nodes.cast(self.head(embedding, "head"), LOGITS, np.float32)
        nodes.cast(embedding, EMBEDDING, np.float32)

    def _mlp(self, value: str, name: str) -> str:
        hidden = self._dense(value, f"{name}.dense_0")
        return self._dense(self.nodes.gelu(hidden, f"{name}.gelu", self.config.gelu), f"{name}.dense_1")

    def _dense(self, value: str, name: str) -> str:
        out_dim, dim = self._weights.tensors[f"{name}.weight"].shape
        kernel = self.part(f"{name}.kernel", f"{name}.weight", (dim, out_dim), np.transpose)
        product = self.nodes.matmul(value, kernel, f"{name}.product")
        return self.nodes.add(product, self.tensor(f"{name}.bias"), name)


def _columns(start: int, width: int) -> Callable[[Array], Array]:
    """Columns of a kernel (out, in) as the rows of one (in, out)."""
    return lambda kernel: np.ascontiguousarray(kernel[:, start : start + width].T)
