"""What an export needs of a network, whoever holds its weights."""

from pathlib import Path
from typing import Protocol

from export.graph import Form
from model.evaluation.evaluate import Logits
from model.preprocess import Pixels
from model.spec import Int8Scales, ModelSpec, Precision
from model.weights.config import MixerConfig


class Exportable(Protocol):
    """A network that can be written as a graph, and that says what the graph must answer."""

    @property
    def config(self) -> MixerConfig:
        """Its sizes."""

    @property
    def spec(self) -> ModelSpec:
        """What its graphs take and answer."""

    @property
    def images(self) -> Pixels | None:
        """Real pictures of its own, uint8 [n, H, W, C]."""

    @property
    def judge(self) -> str:
        """What computes its logits, as messages call it."""

    def logits(self, pixels: Pixels) -> Logits:
        """Logits float32 [n, K] of uint8 [n, H, W, C], which its graphs are compared with."""

    def write_graph(self, path: Path, form: Form) -> None:
        """Write the network as ONNX with a dynamic batch, in one file. Raises ExportError."""

    def write_metadata(self, path: Path, spec: ModelSpec, precision: Precision, int8_scales: Int8Scales) -> None:
        """Put the spec into a graph of this network that has none yet. Raises ExportError."""
