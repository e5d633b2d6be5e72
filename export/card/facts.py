"""What a card tells as numbers: of the graphs in a bundle, and of what was measured. Knows no prose and no format."""

from dataclasses import dataclass
from pathlib import Path

import onnx
from pydantic import ValidationError

from export.target import graphs_in
from model.errors import ExportError
from model.evaluation.findings import Findings
from model.spec import METADATA_KEY, ModelSpec


@dataclass(frozen=True)
class GraphFacts:
    """One graph: the name of its file, its size and its spec."""

    name: str
    num_bytes: int
    spec: ModelSpec


@dataclass(frozen=True)
class Throughput:
    """Images a second that a graph alone answered on a machine, decoding aside."""

    images_per_s: float
    graph: str
    machine: str


@dataclass(frozen=True)
class CardFacts:
    """graphs: at least one. findings: of the graph `judged`, where there was a data set.

    is_blank: the head is known to be untrained, though no graph says so.
    """

    graphs: tuple[GraphFacts, ...]
    findings: Findings | None = None
    judged: str = "fp32.onnx"
    throughput: Throughput | None = None
    is_blank: bool = False

    @property
    def answers_alike(self) -> bool:
        """Whether every picture gets the same answer, as of an untrained head: an export gives no canary then."""
        known = self.spec.network is not None and self.graphs[0].name.endswith(".onnx")
        return self.is_blank or (known and self.spec.canary is None)

    @property
    def spec(self) -> ModelSpec:
        """That of the first graph; the others differ in what was measured."""
        return self.graphs[0].spec

    @property
    def num_parameters(self) -> int | None:
        """Weights of the network. None where its sizes are not known."""
        spec, network = self.spec, self.spec.network
        if network is None:
            return None
        hidden, tokens = network.hidden_dim, spec.num_patches
        token_mlp = 2 * tokens * network.tokens_mlp_dim + network.tokens_mlp_dim + tokens
        channel_mlp = 2 * hidden * network.channels_mlp_dim + network.channels_mlp_dim + hidden
        layer_norm = 2 * hidden
        blocks = network.num_blocks * (2 * layer_norm + token_mlp + channel_mlp)
        head_hidden = network.head_hidden_dim
        head = (hidden + 1) * head_hidden + ((head_hidden or hidden) + 1) * spec.num_classes
        return (spec.patch_bytes + 1) * hidden + blocks + layer_norm + head

    @property
    def mmac(self) -> float | None:
        """Millions of multiply-adds that one picture takes. None where it is not known."""
        return None if self.spec.gflops is None else self.spec.gflops * 500


def read_graphs(bundle: Path) -> tuple[GraphFacts, ...]:
    """The graphs of a bundle. Raises ExportError where there is none, or one was not written by an export."""
    found = graphs_in(bundle)
    if not found:
        raise ExportError(f"{bundle} has no graph; expected a bundle to write the card of.")
    return tuple(GraphFacts(path.name, path.stat().st_size, _spec_of(path)) for path in found.values())


def _spec_of(path: Path) -> ModelSpec:
    metadata = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    try:
        return ModelSpec.model_validate_json(metadata.get(METADATA_KEY, ""))
    except ValidationError as error:
        raise ExportError(f"{path} has no valid {METADATA_KEY}; expected a graph written by mixer export.") from error
