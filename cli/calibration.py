"""`mixer calibrate`: fits what tells sure answers from others to pictures. Loads torch when it runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.evaluation import (
    DataArgument,
    WeightsChoice,
    WeightsOption,
    better_weights,
    data_set,
    dataset_for,
    recipe_of,
)
from cli.terminal import require_extra
from model.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.evaluation.confidence import Calibration


def calibrate(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder, whose config.json changes.")],
    data: DataArgument,
    weights: WeightsOption = WeightsChoice.BEST,
) -> None:
    """Fit temperature, energy threshold and the scores of sets to DATA's validation pictures, and store them.

    A trained checkpoint has them; an imported one, or an older one, gets them so. Export it again afterwards.
    """
    require_extra("torch")
    from model.evaluation.confidence import fit_calibration  # noqa: PLC0415
    from model.evaluation.evaluate import all_logits, evaluate_logits  # noqa: PLC0415
    from model.network import checkpoint, checkpoint_folder  # noqa: PLC0415

    folder = better_weights(source, weights)
    loaded = checkpoint.load(folder)
    dataset = dataset_for(loaded.spec, data, recipe_of(loaded), to_calibrate=True)
    images, named = dataset.val, data_set(data, dataset)
    logits = all_logits(lambda pixels: checkpoint.torch_logits(loaded.model, pixels), images)
    try:
        calibration = fit_calibration(logits, images.labels, named)
    except ArithmeticError as error:
        raise CheckpointError(f"{folder} cannot be calibrated: {error}") from error
    before = evaluate_logits(logits, images.labels, loaded.spec.temperature)
    after = evaluate_logits(logits, images.labels, calibration.temperature)
    spec = calibration.completed(loaded.spec).model_copy(update={"metrics": after.metrics(named)})
    checkpoint_folder.save_spec(spec, folder)
    typer.echo(
        f"{folder}: temperature {loaded.spec.temperature:.4g} -> {spec.temperature:.4g}, "
        f"calibration error {before.calibration_error:.4f} -> {after.calibration_error:.4f} on {named}"
    )
    for line in _found(calibration, logits, images.labels):
        typer.echo(line)


def _found(calibration: "Calibration", logits: "NDArray[np.float64]", labels: "NDArray[np.int64]") -> Iterator[str]:
    """What an answer can tell of its certainty from now on, in lines."""
    from model.evaluation.confidence import label_sets  # noqa: PLC0415
    from model.evaluation.cross_validation import SET_COVERAGES, cross_validated  # noqa: PLC0415
    from model.evaluation.evaluate import LEAST_TO_CALIBRATE, probabilities_of  # noqa: PLC0415

    conformal = calibration.conformal
    if conformal is None:
        yield f"no energy threshold and no sets: {len(logits)} pictures; expected at least {LEAST_TO_CALIBRATE}"
        return
    yield f"energy threshold {calibration.energy_threshold}: 95 % of these pictures are not below it"
    probabilities = probabilities_of(logits, calibration.temperature)
    for coverage in SET_COVERAGES:
        size = label_sets(probabilities, conformal, coverage).sum(axis=1).mean()
        yield f"sets of coverage {coverage}: {size:.2f} labels on average"
    if (found := cross_validated(logits, labels)) is not None:
        yield f"on pictures left out of the fit: {found}"
