"""`mixer reference`: stores what a bundle's answers to held-out pictures look like, for drift to be told by."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.evaluation import DataArgument, SeedOption, ValFractionOption, data_set, dataset_for, opened
from cli.terminal import require_extra
from model.errors import ExportError
from model.recipe import Recipe

if TYPE_CHECKING:
    from model.reference import Reference


def reference(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of graphs, whose metadata change.")],
    data: DataArgument,
    val_fraction: ValFractionOption = 0.1,
    seed: SeedOption = 0,
) -> None:
    """Store in each graph of a bundle how its answers to DATA's validation pictures are distributed.

    An exported bundle has this from its training; an older one gets it so. Nothing else of the graphs changes.
    """
    require_extra("onnx")
    from export.graph import write_metadata  # noqa: PLC0415
    from export.target import PRECISIONS  # noqa: PLC0415
    from model.evaluation.confidence import fit_reference  # noqa: PLC0415
    from model.evaluation.evaluate import LEAST_TO_CALIBRATE, all_logits  # noqa: PLC0415

    precisions = [precision for precision in PRECISIONS if (bundle / f"{precision}.onnx").is_file()]
    if not precisions:
        raise ExportError(f"{bundle} has no graph; expected a bundle, with {', '.join(PRECISIONS)} or some of them.")
    dataset = None
    for precision in precisions:
        spec, logits_of, _ = opened(bundle, precision)
        recipe = Recipe(val_fraction=val_fraction, seed=seed)
        dataset = dataset or dataset_for(spec, data, recipe, to_calibrate=True)
        images = dataset.val
        found = fit_reference(all_logits(logits_of, images, batch_size=32), spec.temperature, data_set(data, dataset))
        if found is None:
            raise ExportError(f"{data} has {len(images)} validation pictures; expected {LEAST_TO_CALIBRATE} or more.")
        write_metadata(bundle / f"{precision}.onnx", spec.model_copy(update={"reference": found}), precision)
        typer.echo(f"{bundle / precision}.onnx: {_in_words(found, spec.labels)}")


def _in_words(found: "Reference", labels: tuple[str, ...]) -> str:
    most = max(range(len(labels)), key=found.classes.__getitem__)
    return f"{found.num_pictures} pictures, {found.classes[most]:.1%} of them {labels[most]!r}"
