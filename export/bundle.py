"""A network -> bundle: write the graphs, prove each, give each a canary, publish them.

A graph is moved into the bundle only after its checks.
"""

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from export.canary import canary_of, tells_apart
from export.int8.by_row import write_int8_by_row
from export.network import Exportable
from export.parity import GraphRunner, Parity, expect_accurate, expect_equal, measure
from export.quantize import write_int8
from export.target import PRECISIONS, Earlier, clear_others, expect_bundle_folder, graphs_in
from model.data.dataset import ImageSet
from model.errors import ExportError
from model.evaluation.evaluate import Logits, evaluate
from model.preprocess import Pixels
from model.spec import Int8Scales, Metrics, ModelSpec, Network, Precision

_NUM_GENERATED = 32
_LARGEST_GENERATED = 4096  # pixels; 32 pictures of 48 MiB
_NUM_COMPARED = 16  # pictures, each with its negative, by which a constant network is known
_UNTRAINED = (
    "The network gives every picture the same answer, as an untrained head does: the bundle classifies nothing, and "
    "has no canary. Train it with --init first.",
)


@dataclass(frozen=True)
class ExportData:
    """The pictures that a bundle is made with, uint8 [n, H, W, C].

    parity_images: every graph is compared with its network on them. calibration: their activations give int8 its
    scales; None: it takes them from every row that it multiplies, which needs no pictures and takes a tenth longer or
    more. test: the name and pictures of a data set on which every graph is measured.
    """

    parity_images: Pixels
    calibration: Pixels | None = None
    test: tuple[str, ImageSet] | None = None

    @property
    def int8_scales(self) -> Int8Scales:
        """Where the scales of an int8 graph come from."""
        return "rows" if self.calibration is None else "pictures"


@dataclass(frozen=True)
class Graph:
    """A file that was written and what was found about it."""

    path: Path
    spec: ModelSpec
    parity: Parity


@dataclass(frozen=True)
class Published:
    """The graphs of a bundle by precision, why others were refused, and what became of earlier graphs.

    warnings: lines for the user about the network.
    """

    graphs: Mapping[Precision, Graph]
    refused: Mapping[Precision, str]
    earlier: Earlier = field(default_factory=Earlier)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Answers:
    """What the network itself answers to the parity images [n, K], and whether it answers alike to all."""

    logits: Logits
    constant: bool


def export_data_of(network: Exportable) -> ExportData:
    """The network's own pictures, which also calibrate int8; or generated ones, which do not."""
    if network.images is None:
        return ExportData(generated_images(network.spec))
    return ExportData(network.images, calibration=network.images)


def publish(
    network: Exportable,
    bundle: Path,
    export_data: ExportData | None = None,
    precisions: Collection[Precision] = PRECISIONS,
) -> Published:
    """Write the graphs of `precisions`, fp32 always, that reach their thresholds; `bundle` loses its other graphs.

    A network that gives every picture the same answer gets no canary: a broken graph would pass it.

    Raises: ExportError where `bundle` holds other things than a bundle does, or fp32 misses its thresholds; the
    folder is then untouched.
    """
    expect_bundle_folder(bundle)
    export_data = export_data or export_data_of(network)
    answers = _answers_of(network, export_data.parity_images)
    try:
        bundle.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=bundle, prefix=".export-") as folder:
            fp32 = _made("fp32", network, answers, export_data, Path(folder), None)
            graphs: dict[Precision, Graph] = {"fp32": fp32}
            refused: dict[Precision, str] = {}
            for precision in (other for other in PRECISIONS if other in precisions and other != "fp32"):
                try:
                    graphs[precision] = _made(precision, network, answers, export_data, Path(folder), fp32)
                except ExportError as error:
                    refused[precision] = str(error)
            before = tuple(graphs_in(bundle))
            placed = _put_in_place(graphs, bundle)
            warnings = _UNTRAINED if answers.constant else ()
            return Published(placed, refused, clear_others(bundle, graphs, before), warnings)
    except OSError as error:
        raise ExportError(f"{bundle} cannot be written: {error}") from error


def generated_images(spec: ModelSpec) -> Pixels:
    """Gradients, stripes and noise, uint8 [32, H, W, C]: for a checkpoint that came without pictures.

    Raises: ExportError for pictures that memory is not made for; a few numbers of a file of weights may ask for them.
    """
    if spec.image_size > _LARGEST_GENERATED:
        raise ExportError(
            f"{spec.name} sees pictures of {spec.image_size} pixels; expected at most {_LARGEST_GENERATED}, as its "
            "graphs are proved with 32 of them."
        )
    generator = np.random.default_rng(0)
    size = spec.image_size
    ramp = np.linspace(0, 1, size)
    images = []
    for index in range(_NUM_GENERATED):
        angle, frequency = generator.uniform(0, np.pi), generator.uniform(0.5, 8)
        phase = np.add.outer(ramp * np.sin(angle), ramp * np.cos(angle))[..., np.newaxis]
        waves = 127.5 + 127.5 * np.sin(2 * np.pi * frequency * phase + generator.uniform(0, 6, spec.channels))
        noise = generator.normal(0, 4 * index, (size, size, spec.channels))
        images.append((waves + noise).clip(0, 255).astype(np.uint8))
    return np.stack(images)


def _answers_of(network: Exportable, pixels: Pixels) -> _Answers:
    both = network.logits(np.concatenate([pixels, 255 - pixels[:_NUM_COMPARED]]))
    logits, of_negatives = np.split(both, [len(pixels)])
    return _Answers(logits, constant=not tells_apart(np.concatenate([logits[:_NUM_COMPARED], of_negatives])))


def _made(
    precision: Precision,
    network: Exportable,
    answers: _Answers,
    export_data: ExportData,
    folder: Path,
    fp32: Graph | None,
) -> Graph:
    """Write one graph to `folder` and check it. Raises ExportError."""
    path = folder / f"{precision}.onnx"
    _write(precision, network, export_data, path)
    runner = GraphRunner(path, network.spec.patch_size, precision)
    parity = measure(answers.logits, runner, export_data.parity_images, network.judge)
    expect_equal(parity, precision)
    spec = _completed(network, export_data, runner, precision, constant=answers.constant)
    if fp32 is not None and fp32.spec.metrics is not None and spec.metrics is not None and export_data.test is not None:
        expect_accurate(spec.metrics, fp32.spec.metrics, precision, parity.top1_agreement)
    network.write_metadata(path, spec, precision, export_data.int8_scales)
    return Graph(path, spec, parity)


def _write(precision: Precision, network: Exportable, export_data: ExportData, path: Path) -> None:
    if precision != "int8":
        network.write_graph(path, precision)
        return
    rows = path.with_name("rows.onnx")
    network.write_graph(rows, "rows")
    if export_data.calibration is None:
        write_int8_by_row(rows, path, export_data.parity_images, network.spec.patch_size)
    else:
        write_int8(rows, path, export_data.calibration, network.spec.patch_size)


def _completed(
    network: Exportable, export_data: ExportData, runner: GraphRunner, precision: Precision, *, constant: bool
) -> ModelSpec:
    """The spec with the graph's canary and metrics, and the network's sizes."""
    spec, config = network.spec, network.config
    own = network.images if network.images is not None else export_data.parity_images  # data may not be given away
    found: dict[str, object] = {
        "network": Network(**{size: getattr(config, size) for size in Network.model_fields}),
        "canary": None if constant else canary_of(runner, spec, own[0], precision),
    }
    if export_data.test is not None:
        found["metrics"] = _metrics(runner, spec.temperature, *export_data.test)
    return spec.model_copy(update=found)


def _put_in_place(graphs: Mapping[Precision, Graph], bundle: Path) -> dict[Precision, Graph]:
    return {p: replace(graph, path=graph.path.replace(bundle / graph.path.name)) for p, graph in graphs.items()}


def _metrics(runner: GraphRunner, temperature: float, data_set: str, images: ImageSet) -> Metrics:
    return evaluate(runner.logits, images, temperature=temperature).metrics(data_set)
