"""The commands around a checkpoint: `mixer import | export`; the others come from neighbouring modules.

They need the extras train and export; torch is loaded when one of them needs it, and not before.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.settings import PASS_ON
from cli.calibration import calibrate
from cli.card import card, card_of_export
from cli.distillation import distil, lessons
from cli.evaluation import WeightsChoice, WeightsOption, better_weights, data_set, dataset_for, evaluate, recipe_of
from cli.learn.comparing import compare
from cli.outgoing.commands import export_timm
from cli.outgoing.push import push
from cli.outgoing.signing import sign
from cli.reference import reference
from cli.straightening import straighten
from cli.terminal import bar, console, require_extra, task_of
from cli.training import train
from model.errors import ExportError
from model.spec import Precision

if TYPE_CHECKING:
    from export.bundle import ExportData
    from model.data.dataset import PixelRows
    from model.network.checkpoint import Checkpoint
    from model.preprocess import Pixels

_IMAGENET = Path("imagenet1k")
_NUM_PARITY_IMAGES, _NUM_CALIBRATION = 256, 512


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command("train", context_settings=PASS_ON, add_help_option=False)(train)
    app.command("compare")(compare)
    app.command("lessons", context_settings=PASS_ON, add_help_option=False)(lessons)
    app.command("distil", context_settings=PASS_ON, add_help_option=False)(distil)
    app.command("import")(import_weights)
    app.command("export")(export)
    app.command("evaluate")(evaluate)
    app.command("calibrate")(calibrate)
    app.command("straighten")(straighten)
    app.command("reference")(reference)
    app.command("card")(card)
    app.command("push")(push)
    app.command("sign")(sign)


def import_weights(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="google:FOLDER/NAME, timm:NAME, hf-hub:ORG/REPO[@REVISION], or a file: Google's .npz, timm's "
            ".safetensors or .pth.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Folder to write.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="File with one label a line, or the word imagenet1k. Default: that if SRC says so, else numbers."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Where downloads are kept. Default: ~/.cache/mixer-serve, and the Hugging Face cache for timm's."
        ),
    ] = None,
) -> None:
    """Turn a public Mixer's weights into a checkpoint folder, downloading them where a name is given."""
    require_extra("safetensors")
    from model.data.layout import read_labels  # noqa: PLC0415
    from model.hubs import source as hub_source  # noqa: PLC0415
    from model.network import checkpoint_folder, foreign  # noqa: PLC0415
    from model.weights.mixer_weights import TORCH_SUFFIXES  # noqa: PLC0415

    checkpoint_folder.expect_checkpoint_folder(out)
    words = None
    if labels is not None:
        words = foreign.imagenet1k_labels() if labels == _IMAGENET else read_labels(labels)
    with bar() as progress:
        found = hub_source.fetch(source, cache, task_of(progress, f"downloading {source}"))
    if found.path.suffix.lower() in TORCH_SUFFIXES:
        require_extra("torch")
        from model.network import zoo  # noqa: PLC0415

        imported = zoo.read_any(found.path, words, found.remote)
    else:
        imported = foreign.read(found.path, words, found.remote)
    foreign.save(imported, out)
    config = imported.weights.config
    typer.echo(
        f"{out}: Mixer {imported.spec.variant}, {config.image_size} pixels, patch {config.patch_size}, "
        f"{config.num_classes} classes, {config.gelu} GELU"
    )


def export(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.")],
    bundle: Annotated[Path | None, typer.Argument(metavar="BUNDLE", help="Folder to write the graphs to.")] = None,
    weights: WeightsOption = WeightsChoice.BEST,
    data: Annotated[
        Path | None,
        typer.Option(help="DATA whose test pictures measure the graphs, and whose training pictures calibrate int8."),
    ] = None,
    precisions: Annotated[
        str | None,
        typer.Option(
            help="Which graphs to write, as fp32,fp16,int8; fp32 is always written, and others that BUNDLE "
            "holds are removed. Default: all."
        ),
    ] = None,
    timm: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write timm's layout to, too, or alone where BUNDLE is left out."),
    ] = None,
) -> None:
    """Write a checkpoint as an ONNX bundle, each graph once it has been proved. Exit code 1 where one was refused."""
    if timm is not None:
        export_timm(better_weights(source, weights), timm, prose=source)
        if bundle is None:
            return
    if bundle is None:
        raise ExportError("BUNDLE is missing; expected a folder for the graphs, or --timm DIR.")
    raise typer.Exit(_export_bundle(source, bundle, weights, data, precisions))


def _export_bundle(
    source: Path, bundle: Path, weights: WeightsChoice, data: Path | None, precisions: str | None
) -> int:
    """Write the bundle, and print what became of each graph. Returns the exit code."""
    require_extra("onnxscript")
    from export.bundle import publish  # noqa: PLC0415
    from export.target import PRECISIONS, expect_bundle_folder  # noqa: PLC0415
    from export.to_onnx import TorchNetwork  # noqa: PLC0415
    from model.data.layout import expect_outside  # noqa: PLC0415
    from model.evaluation.evaluate import accuracy_words  # noqa: PLC0415
    from model.network import checkpoint  # noqa: PLC0415

    named = None if precisions is None else _precisions(precisions)
    expect_bundle_folder(bundle)
    if data is not None:
        expect_outside(bundle, data)
    loaded = checkpoint.load(better_weights(source, weights))
    export_data = _export_data(loaded, data)
    published = publish(TorchNetwork(loaded), bundle, export_data, named or PRECISIONS)
    for graph in published.graphs.values():
        typer.echo(
            f"{graph.path}: differs from {graph.parity.judge} by {graph.parity.relative_difference:.1e} of the logits' "
            f"range on {graph.parity.num_pictures} pictures, same best label on {graph.parity.top1_agreement:.1%}"
        )
        if data is not None and graph.spec.metrics is not None:
            metrics = graph.spec.metrics
            typer.echo(f"{graph.path}: {accuracy_words(metrics.top1, metrics.num_pictures)} on {metrics.data_set}")
    for word, paths in (("replaced", published.earlier.replaced), ("removed", published.earlier.removed)):
        if paths:
            console.print(f"{word}, as of an earlier export: {', '.join(map(str, paths))}")
    for line in published.warnings:
        console.print(f"warning: {line}")
    for reason in published.refused.values():
        console.print(f"mixer: {reason}")
    if "int8" in published.graphs and export_data.int8_scales == "rows":
        console.print(
            "int8.onnx takes its scales from every row, as the checkpoint has no pictures; with --data it is faster."
        )
    card_of_export(source, bundle, export_data.test)
    return 1 if published.refused else 0


def _precisions(text: str) -> "tuple[Precision, ...]":
    """Raises ExportError for a word that is no precision."""
    from export.target import PRECISIONS  # noqa: PLC0415

    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in PRECISIONS:
            raise ExportError(f"precisions names {word!r}; expected some of {', '.join(PRECISIONS)}.")
    return tuple(precision for precision in PRECISIONS if precision in words)


def _export_data(loaded: "Checkpoint", data: Path | None) -> "ExportData":
    """The pictures to make a bundle with: DATA's, or the checkpoint's own."""
    from export.bundle import ExportData, export_data_of  # noqa: PLC0415
    from export.to_onnx import TorchNetwork  # noqa: PLC0415

    if data is None:
        return export_data_of(TorchNetwork(loaded))
    dataset = dataset_for(loaded.spec, data, recipe_of(loaded), with_training=True)
    _, images = dataset.judged
    if not len(dataset.train):
        console.print(f"{data} has no training pictures; int8 takes its scales from those that measure it.")
    return ExportData(
        parity_images=evenly(images.pixels, _NUM_PARITY_IMAGES),
        calibration=evenly((dataset.train if len(dataset.train) else images).pixels, _NUM_CALIBRATION),
        test=(data_set(data, dataset), images),
    )


def evenly(pixels: "PixelRows", most: int) -> "Pixels":
    """At most so many pictures, evenly spaced: class folders come one after another."""
    taken: Pixels = pixels[:: max(1, math.ceil(len(pixels) / most))]
    return taken
