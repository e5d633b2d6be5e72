"""`mixer evaluate`: a checkpoint or a bundle judged on pictures. torch is loaded when it runs, and not before."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.judging import AT_ONCE, MOST_PICTURES, Beyond, PicturesOption, UnfamiliarOption, judge, print_findings
from cli.terminal import bar, console, require_extra, task_of
from model.network.run_folder import CONFIG, best_and_last, better
from model.recipe import Recipe
from model.spec import ModelSpec

if TYPE_CHECKING:
    from model.data.dataset import Dataset
    from model.evaluation.evaluate import Logits
    from model.network.checkpoint import Checkpoint
    from model.preprocess import Pixels

DataArgument = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="Folder of class folders (LABEL/*.jpg; train/, val/, test/) or of IDX files."),
]


class WeightsChoice(StrEnum):
    """Which weights of a training run's folder are meant."""

    BEST = "best"
    LAST = "last"


WeightsOption = Annotated[
    WeightsChoice,
    typer.Option(
        help="For a training run's folder: best, the epoch that did best on the validation pictures, or last."
    ),
]


def _expect_fraction(val_fraction: float) -> float:
    if not 0 < val_fraction < 1:
        raise typer.BadParameter(f"{val_fraction:g} is not a share; expected more than 0 and less than 1.")
    return val_fraction


ValFractionOption = Annotated[
    float,
    typer.Option(callback=_expect_fraction, help="For a BUNDLE: as in training, where DATA has no val/."),
]
SeedOption = Annotated[
    int,
    typer.Option(min=0, help="Of what is random; for a BUNDLE also as in training, where DATA has no val/."),
]


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT|BUNDLE", help="What to judge.")],
    data: DataArgument,
    weights: WeightsOption = WeightsChoice.BEST,
    precision: Annotated[
        str, typer.Option(help="For a BUNDLE: fp32, fp16, int8, or auto as the service has it.")
    ] = "auto",
    val_fraction: ValFractionOption = 0.1,
    seed: SeedOption = 0,
    report: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write report.html there, with every class and two diagrams.")
    ] = None,
    judge_all: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Judge by all of DATA where it has no test/ and no val/, as of what the model was not trained on.",
        ),
    ] = False,
    robustness: Annotated[
        bool, typer.Option(help="Also under fifteen corruptions, moved, and against pictures of no class.")
    ] = False,
    out_of_distribution: UnfamiliarOption = None,
    pictures: PicturesOption = MOST_PICTURES,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything that was found there.")] = None,
) -> None:
    """Judge a checkpoint or a bundle on DATA's test pictures, or its validation pictures where there are none.

    DATA's class folders are the model's labels, or some of them. Where there are only training pictures, those are
    judged that training held out; with --all, for an imported checkpoint and for some of the classes alone, all are.
    """
    from model.data.layout import expect_outside  # noqa: PLC0415

    if report is not None:
        expect_outside(report, data)
    folder = better_weights(source, weights)
    spec, logits_of, remembered = opened(folder, precision)
    recipe = remembered or Recipe(val_fraction=val_fraction, seed=seed)
    is_imported = remembered is None and (folder / CONFIG).is_file()
    dataset = dataset_for(spec, data, recipe, judge_all=judge_all or is_imported)
    split, images = dataset.judged
    name = data_set(data, dataset)
    title = f"{spec.name} on {name}"
    beyond = Beyond(robustness, out_of_distribution, pictures, seed)
    logits, findings = judge(logits_of, spec, name, images, beyond)
    print_findings(findings, title)
    if json is not None:
        from model.evaluation.findings import write_findings  # noqa: PLC0415

        write_findings(findings, json)
    if report is not None:
        require_extra("matplotlib")
        from model.evaluation.report import write_report  # noqa: PLC0415
        from model.evaluation.sections import sections_of  # noqa: PLC0415

        settings = {
            "model": str(folder),
            "data": f"{data}, {len(images)} {split} pictures",
            "held out": f"{recipe.val_fraction:g} of each class, seed {recipe.seed}" if dataset.is_held_out else "no",
            **_settings_of(spec),
            **_training_of(remembered),
        }
        sections = sections_of(findings)
        typer.echo(write_report(report, title, spec.labels, logits, images, spec.temperature, settings, sections))


def _settings_of(spec: ModelSpec) -> dict[str, str]:
    """How this classifier sees pictures, for a report."""
    return {
        "variant": spec.variant,
        "image size": f"{spec.image_size} pixels, patches of {spec.patch_size}, {spec.channels} channels",
        "fit": f"{spec.fit.mode}, {spec.fit.crop_percentage:g} of the shorter side, background {spec.fit.background}, "
        f"frame {spec.fit.frame}" + _turns_back(spec),
        "interpolation": spec.interpolation,
        "temperature": f"{spec.temperature:.4g}",
        "origin": spec.source.origin,
    }


def _turns_back(spec: ModelSpec) -> str:
    return "" if spec.fit.tilt is None else f", things turned back from {spec.fit.tilt.beyond:g} degrees on"


def _training_of(recipe: Recipe | None) -> dict[str, str]:
    """How a checkpoint was trained, for a report; nothing where that is not known."""
    if recipe is None:
        return {}
    words = f"{recipe.epochs} epochs, batches of {recipe.batch_size}, learning rate {recipe.learning_rate:g}"
    return {"training": f"{words}, seed {recipe.seed}"}


def better_weights(source: Path, weights: WeightsChoice) -> Path:
    """The checkpoint to take from `source`; prints a line where that is another folder."""
    taken = better(source, weights.value)
    both = best_and_last(source)
    if both is not None and taken != source:
        best, last = both
        console.print(
            f"{source}: taking {taken}, epoch {best.epoch} with top-1 {best.top1:.2%}; the last, {last.epoch}, has "
            f"{last.top1:.2%} (--weights last)"
        )
    return taken


def data_set(data: Path, dataset: "Dataset") -> str:
    """The split and its size, in words."""
    split, images = dataset.judged
    num_classes = len(set(images.labels.tolist()))
    some = f", {num_classes} of {len(dataset.labels)} classes" if num_classes < len(dataset.labels) else ""
    return f"{data.resolve().name}, {split}{some}"


def recipe_of(loaded: "Checkpoint") -> Recipe:
    """The recipe in a checkpoint, for its split; an imported one has none."""
    return Recipe.model_validate(loaded.training.get("recipe", {}))


def opened(source: Path, precision: str) -> "tuple[ModelSpec, Callable[[Pixels], Logits], Recipe | None]":
    """A checkpoint or a bundle as a function from pixels to logits, and the recipe of a checkpoint that was trained."""
    if (source / CONFIG).is_file():
        require_extra("torch")
        from model.network import checkpoint  # noqa: PLC0415

        loaded: Checkpoint = checkpoint.load(source)
        recipe = recipe_of(loaded) if "recipe" in loaded.training else None
        return loaded.spec, lambda pixels: checkpoint.torch_logits(loaded.model, pixels), recipe
    from app.engine.engine import EngineOptions, open_engine  # noqa: PLC0415
    from model.preprocess import patchify  # noqa: PLC0415

    engine = open_engine(EngineOptions(source, precision=precision, instances=1, max_batch_size=AT_ONCE))
    console.print(f"{source}: {engine.precision} on {engine.provider}")
    return engine.spec, lambda pixels: engine.run(list(patchify(pixels, engine.spec.patch_size))).logits, None


def dataset_for(
    spec: ModelSpec,
    data: Path,
    recipe: Recipe,
    *,
    with_training: bool = False,
    to_calibrate: bool = False,
    judge_all: bool = False,
) -> "Dataset":
    """DATA as this classifier sees it, read under a progress bar; prints what was found. Raises DataError."""
    from model.data.dataset import PreprocessConfig  # noqa: PLC0415
    from model.data.loading import load_for  # noqa: PLC0415
    from model.evaluation.inventory import describe_judged  # noqa: PLC0415

    with bar() as progress:
        dataset = load_for(
            data,
            PreprocessConfig(spec.image_size, spec.channels, spec.fit, spec.interpolation),
            spec.labels,
            with_training=with_training,
            to_calibrate=to_calibrate,
            judge_all=judge_all,
            val_fraction=recipe.val_fraction,
            seed=recipe.seed,
            progress=task_of(progress, "reading pictures"),
        )
    for line in describe_judged(dataset):
        console.print(line)
    return dataset
