"""`mixer straighten`: teaches a checkpoint to turn things back before it looks. Loads torch when it runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.evaluation import (
    DataArgument,
    WeightsChoice,
    WeightsOption,
    better_weights,
    dataset_for,
    recipe_of,
)
from cli.terminal import bar, require_extra, task_of
from model.errors import CheckpointError

if TYPE_CHECKING:
    from model.data.dataset import ImageSet
    from model.network.checkpoint import Checkpoint
    from model.spec import ModelSpec, Tilt


def straighten(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder, whose config.json changes.")],
    data: DataArgument,
    beyond: Annotated[
        float, typer.Option(min=1, max=45, help="Degrees; things that seem to be turned by less are left as they are.")
    ] = 12.0,
    epochs: Annotated[int, typer.Option(min=1, help="How often every training picture is seen, turned anew.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Of what is random.")] = 0,
    weights: WeightsOption = WeightsChoice.BEST,
) -> None:
    """Learn from DATA's training pictures, whose things stand upright, by how much a thing is turned, and store it.

    From then on a picture is turned back before the network looks, in the service and everywhere else. The network
    stays as it is. Its fit has to be pad, with a frame around the thing. What it prints is of DATA's validation
    pictures. Calibrate and export the checkpoint again afterwards.
    """
    require_extra("torch")
    from model.network import checkpoint, checkpoint_folder  # noqa: PLC0415
    from model.training.straightening import TiltOptions, fit_tilt, with_tilt, without_tilt  # noqa: PLC0415

    folder = better_weights(source, weights)
    loaded = checkpoint.load(folder)
    fit = loaded.spec.fit
    if fit.frame != "thing" or fit.mode != "pad":
        raise CheckpointError(
            f"{folder} has the fit {fit.mode} and the frame {fit.frame}; expected pad and thing (mixer train --fit pad "
            "--background black --frame thing), as for things before an even ground."
        )
    plain = without_tilt(loaded.spec)
    dataset = dataset_for(plain, data, recipe_of(loaded), with_training=True, to_calibrate=True)
    if not len(dataset.train):
        raise CheckpointError(f"{data} has no training pictures; expected some whose things stand upright.")
    with bar() as progress:
        options = TiltOptions(beyond=beyond, epochs=epochs, seed=seed)
        task = task_of(progress, "learning", each=options.batch_size)
        found = fit_tilt(dataset.train, plain, options, task)
    spec = with_tilt(plain, found)
    checkpoint_folder.save_spec(spec, folder)
    typer.echo(f"{folder}: turns things back from {beyond:g} degrees on; {data.resolve().name}, validation:")
    for line in _judged(loaded, spec, found, dataset.val):
        typer.echo(line)


def _judged(loaded: "Checkpoint", spec: "ModelSpec", found: "Tilt", images: "ImageSet") -> Iterator[str]:
    """How far off the angles are, and what the network makes of turned pictures, before and after."""
    from model.network import checkpoint  # noqa: PLC0415
    from model.training.straightening import judge, top1_turned, without_tilt  # noqa: PLC0415

    for judged in judge(found, images, spec):
        before, after = (
            top1_turned(lambda pixels: checkpoint.torch_logits(loaded.model, pixels), images, each, judged.degrees)
            for each in (without_tilt(spec), spec)
        )
        yield (
            f"turned by {judged.degrees:2d} degrees: off by {judged.error:.1f} on average, 95 % by at most "
            f"{judged.error_95:.1f}; {judged.turned_back:.1%} turned back; top-1 {before:.1%} -> {after:.1%}"
        )
