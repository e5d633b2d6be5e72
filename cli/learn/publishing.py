"""The bundle of a training run, written when the run has ended. onnx is loaded when it is written, and not before."""

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.pulling import packages
from cli.terminal import command_line, console
from model.network.run_folder import better
from model.training.options import TrainOptions

if TYPE_CHECKING:
    from export.bundle import ExportData
    from model.data.dataset import Dataset
    from model.spec import Metrics, ModelSpec

_BUNDLES = Path("bundles")
_NUM_PARITY_IMAGES, _NUM_CALIBRATION = 128, 256


def wants_bundle(options: TrainOptions) -> bool:
    """Whether a run ends with a bundle: where --out is left to be chosen, or --bundle is given."""
    return not options.no_bundle and (options.bundle is not None or "out" not in options.model_fields_set)


def publish_run(source: Path, options: TrainOptions, export_data: "ExportData | None" = None) -> Path | None:
    """Export the checkpoint in `source`; returns the bundle. None, with a line, where what exports is not installed.

    export_data: the run's own pictures; without them, those that the checkpoint carries.
    Raises: ExportError.
    """
    if (missing := packages.missing_of(packages.CONVERT)) is not None:
        console.print(f"no bundle is written: that needs {missing}, which scripts/install cpu,train,convert brings")
        return None
    from export.bundle import export_data_of, publish  # noqa: PLC0415
    from export.direct.convert import open_checkpoint  # noqa: PLC0415

    network = open_checkpoint(source)
    bundle = options.bundle or _bundle_for(network.spec, options.out.resolve().name)
    used = export_data or export_data_of(network)
    published = publish(network, bundle, used)
    for graph in published.graphs.values():
        typer.echo(f"{graph.path}{_accuracy(graph.spec.metrics)}")
    for line in (*published.warnings, *published.refused.values()):
        console.print(f"warning: {line}")
    _write_card(source, bundle, used)
    return bundle


def _accuracy(metrics: "Metrics | None") -> str:
    """How good a graph is, and on what; nothing where it was not measured."""
    from model.evaluation.evaluate import accuracy_words  # noqa: PLC0415

    if metrics is None:
        return ""
    words = accuracy_words(metrics.top1, metrics.num_pictures)
    pictures = "1 picture" if metrics.num_pictures == 1 else f"{metrics.num_pictures} pictures"
    return f": {words} on {pictures}, {metrics.data_set}"


def publish_trained(options: TrainOptions, dataset: "Dataset") -> Path | None:
    """Export the better checkpoint of a run that has ended, with the run's own pictures."""
    if packages.missing_of(packages.CONVERT) is not None:
        return publish_run(better(options.out), options)
    from export.bundle import ExportData  # noqa: PLC0415
    from model.data.dataset import evenly_spaced  # noqa: PLC0415

    split, images = dataset.judged
    export_data = ExportData(
        images.pixels[evenly_spaced(len(images), _NUM_PARITY_IMAGES)],
        dataset.train.pixels[evenly_spaced(len(dataset.train), _NUM_CALIBRATION)],
        (f"{options.data.resolve().name}, {split}", images),
    )
    return publish_run(better(options.out), options, export_data)


def serve_line(bundle: Path) -> str:
    """The command that serves it."""
    return command_line("serve", bundle)


def _write_card(source: Path, bundle: Path, export_data: "ExportData") -> None:
    from cli.card import card_of_export  # noqa: PLC0415

    card_of_export(source, bundle, export_data.test)


def _bundle_for(spec: "ModelSpec", name: str) -> Path:
    """bundles/NAME, which an earlier end of this run may have made; NAME-2 and so on where another model lies there."""
    for number in count(1):
        path = _BUNDLES / (name if number == 1 else f"{name}-{number}")
        if not path.exists() or _is_of(path, spec):
            return path
    raise AssertionError("This is a bug: numbers have no end.")


def _is_of(bundle: Path, of: "ModelSpec") -> bool:
    """Whether a bundle has the name and the origin of this model."""
    import onnx  # noqa: PLC0415

    from model.spec import METADATA_KEY, ModelSpec  # noqa: PLC0415

    graph = bundle / "fp32.onnx"
    if not graph.is_file():
        return False
    try:
        metadata = {entry.key: entry.value for entry in onnx.load(graph).metadata_props}
        spec = ModelSpec.model_validate_json(metadata[METADATA_KEY])
    except (OSError, ValueError, KeyError):
        return False
    return (spec.name, spec.source) == (of.name, of.source)
