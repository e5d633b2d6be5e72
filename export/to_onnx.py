"""A Mixer in torch as an ONNX graph: uint8 patches in, logits and embedding out. Knows nothing of parity."""

import copy
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from export.graph import CENTRE, EMBEDDING, INPUT, LOGITS, OPSET, Form, write_metadata
from export.wide_mlps import split_wide_mlps
from model.errors import ExportError
from model.evaluation.evaluate import Logits
from model.network.checkpoint import Checkpoint, torch_logits
from model.network.mixer import MixerBlock, MlpMixer
from model.preprocess import Pixels
from model.spec import Int8Scales, ModelSpec, Precision
from model.weights.config import MixerConfig

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
        self.stem = model.folded_stem(centre=CENTRE).half()
        self.model = copy.deepcopy(model).half()

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Map patches uint8 [N, S, P*P*C_in] to logits float32 [N, K] and embedding float32 [N, C]."""
        embedding = self.model.mix(self.stem(patches.half() - CENTRE))  # N C
        return self.model.classify(embedding).float(), embedding.float()


def write_graph(model: MlpMixer, path: Path, form: Form = "fp32") -> None:
    """Write `model` as ONNX with a dynamic batch, in one file. Raises ExportError.

    It is not whole without its metadata, and holds the exporter's stack traces until then.
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


@dataclass(frozen=True)
class TorchNetwork:
    """A checkpoint as export/bundle.py publishes it: traced by torch.onnx, and judged by torch."""

    checkpoint: Checkpoint
    judge: str = "torch"

    @property
    def config(self) -> MixerConfig:
        """Its sizes."""
        return self.checkpoint.model.config

    @property
    def spec(self) -> ModelSpec:
        """What its graphs take and answer."""
        return self.checkpoint.spec

    @property
    def images(self) -> Pixels | None:
        """Real pictures, uint8 [n, H, W, C], not in the training set."""
        return self.checkpoint.images

    def logits(self, pixels: Pixels) -> Logits:
        """Logits float32 [n, K] of uint8 [n, H, W, C]."""
        return torch_logits(self.checkpoint.model, pixels)

    def write_graph(self, path: Path, form: Form) -> None:
        """Write the network as ONNX. Raises ExportError."""
        write_graph(self.checkpoint.model, path, form)

    def write_metadata(self, path: Path, spec: ModelSpec, precision: Precision, int8_scales: Int8Scales) -> None:
        """Put the spec into a graph of this network. Raises ExportError."""
        write_metadata(path, spec, precision, int8_scales)
