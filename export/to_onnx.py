"""A Mixer as an ONNX graph: uint8 patches in, logits and embedding out, its spec inside. Knows nothing of parity."""

import copy
import logging
import warnings
from pathlib import Path
from typing import Literal, cast

import onnx
import torch
from torch import Tensor, nn

from export.wide_mlps import split_wide_mlps
from model.errors import ExportError
from model.network.mixer import MixerBlock, MlpMixer
from model.spec import (
    INT8_KERNELS_KEY,
    INT8_SCALES_KEY,
    METADATA_KEY,
    PAIRS_FIT_INT16,
    PRECISION_KEY,
    Int8Scales,
    ModelSpec,
    Precision,
)

Form = Literal["fp32", "fp16", "rows"]

OPSET = 20  # the first with Gelu as one node
INPUT, LOGITS, EMBEDDING = "patches", "logits", "embedding"
_CENTRE = 128.0  # of the pixels in half precision
_TRACED_BATCH = 2  # a batch of 1 can freeze the dimension


class RowGraph(nn.Module):
    """The network as exported for CPUs: all tokens of a batch as the rows of one matrix.

    Every dense layer then is one Gemm with its bias inside; a MatMul and an Add take 3 % longer on the default model.
    Nor does ONNX Runtime fuse the last sum with the layer norm after it: its SkipLayerNormalization takes eight times
    as long as the two of them on a CPU.

    The normalization is folded into the stem, so that raw pixels enter the first product.
    """

    def __init__(self, model: MlpMixer) -> None:
        super().__init__()
        self.stem = model.folded_stem()
        self.model = model

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Map patches uint8 [N, S, P*P*C_in] to logits [N, K] and embedding [N, C]."""
        num_patches, hidden_dim = self.model.config.num_patches, self.model.config.hidden_dim
        tokens = self.stem(patches.float().flatten(0, 1))  # N*S C
        for block in self.model.blocks:
            assert isinstance(block, MixerBlock)  # noqa: S101 -- ModuleList forgets what it holds
            tokens = tokens + self._mixed_across_patches(block, tokens)  # N*S C
            tokens = tokens + block.channel_mixing(block.layer_norm_1(tokens))  # N*S C
        tokens = tokens.reshape(-1, num_patches, hidden_dim)  # N S C
        embedding = self.model.pre_head_layer_norm(tokens).mean(dim=1)  # N C
        return self.model.classify(embedding), embedding

    def _mixed_across_patches(self, block: MixerBlock, tokens: Tensor) -> Tensor:
        """The token-mixing branch of one block: [N*S, C] -> [N*S, C]."""
        num_patches, hidden_dim = self.model.config.num_patches, self.model.config.hidden_dim
        columns = block.layer_norm_0(tokens).reshape(-1, num_patches, hidden_dim).transpose(1, 2)  # N C S
        mixed = block.token_mixing(columns.reshape(-1, num_patches))  # N*C S
        rows = mixed.reshape(-1, hidden_dim, num_patches).transpose(1, 2).reshape(-1, hidden_dim)  # N*S C
        return cast(Tensor, rows)


class HalfGraph(nn.Module):
    """The network as exported for GPUs: the model unchanged, in half precision, with float logits and embedding.

    Bytes are exact in half precision. The pixels' mean is subtracted before the product, which then rounds less.
    """

    def __init__(self, model: MlpMixer) -> None:
        super().__init__()
        self.stem = model.folded_stem(centre=_CENTRE).half()
        self.model = copy.deepcopy(model).half()

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Map patches uint8 [N, S, P*P*C_in] to logits float32 [N, K] and embedding float32 [N, C]."""
        embedding = self.model.mix(self.stem(patches.half() - _CENTRE))  # N C
        return self.model.classify(embedding).float(), embedding.float()


def write_graph(model: MlpMixer, path: Path, form: Form = "fp32") -> None:
    """Write `model` as ONNX with a dynamic batch, in one file. Raises ExportError.

    "rows" is fp32 with undivided dense layers, the source of an int8 graph.
    """
    config = model.config
    example = torch.zeros(_TRACED_BATCH, config.num_patches, config.patch_dim, dtype=torch.uint8)
    graph = _graph(model, form).eval()
    for name in ("onnxscript", "torch.onnx"):  # they report on the exporter itself
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with torch.inference_mode(), warnings.catch_warnings(action="ignore"):  # of the exporter about itself
            torch.onnx.export(
                graph,
                (example,),
                path,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[LOGITS, EMBEDDING],
                dynamic_shapes={"patches": {0: torch.export.Dim("batch", min=1)}},
                external_data=False,
            )
    except Exception as error:
        raise ExportError(f"The network cannot be exported: {' '.join(str(error).split())[:300]}") from error


def _graph(model: MlpMixer, form: Form) -> nn.Module:
    if form == "fp16":
        return HalfGraph(model)
    return RowGraph(split_wide_mlps(model) if form == "fp32" else model)


def write_metadata(path: Path, spec: ModelSpec, precision: Precision, int8_scales: Int8Scales = "pictures") -> None:
    """Put the spec into the graph's metadata, in place, and check the whole graph. Raises ExportError.

    int8_scales: where an int8 graph's come from.
    """
    graph = onnx.load(path)
    kept = {entry.key: entry.value for entry in graph.metadata_props}
    kept |= {METADATA_KEY: spec.model_dump_json(), PRECISION_KEY: precision}
    if precision == "int8":
        kept |= {INT8_KERNELS_KEY: PAIRS_FIT_INT16, INT8_SCALES_KEY: int8_scales}
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, kept)
    graph.producer_name = "mixer-serve"
    forget_traces(graph)
    try:
        onnx.checker.check_model(graph, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"The exported graph is not valid ONNX: {error}") from error
    onnx.save(graph, path)


def forget_traces(graph: onnx.ModelProto) -> None:
    """Remove, in place, the exporter's stack traces from every node: they have this machine's paths."""
    for node in graph.graph.node:
        del node.metadata_props[:]
