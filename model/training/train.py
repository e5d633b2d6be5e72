"""Train a Mixer from options or from values, in this process or as one of several.

    python -m model.training.train DATA --out CHECKPOINT ...
    torchrun --nproc-per-node=2 -m model.training.train DATA --out CHECKPOINT ...

take the flags of `mixer train` (options.py). Connects the parts of training; the loop is in run.py.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from model.data.dataset import Dataset
from model.data.layout import read_labels
from model.data.loading import load
from model.data.pillow_warnings import silenced
from model.errors import MixerError, TrainingError, TrainingStopped
from model.evaluation.confidence import Calibration
from model.evaluation.curves import write_curves
from model.evaluation.evaluate import Evaluation
from model.evaluation.inventory import describe
from model.flags import parse
from model.network import checkpoint, checkpoint_folder
from model.network.mixer import MlpMixer
from model.network.provenance import versions
from model.network.run_folder import BEST, expect_run_folder
from model.recipe import Recipe
from model.spec import ModelSpec
from model.stopping import StopNow, stop_signals
from model.training.options import TrainOptions
from model.training.precision import described as described_precision
from model.training.precision import expect_fast
from model.training.processes import Processes, device_for, exit_without_teardown, joined
from model.training.run import VALIDATION, Run
from model.training.run_config import RunConfig, TrainCallbacks
from model.training.start.choices import with_sizes
from model.training.start.near_duplicates import near_duplicates
from model.training.start.network import open_start, preprocess_config
from model.training.start.plan import plan
from model.training.stored_logits import StoredLogits
from model.training.teacher import Teacher
from model.training.teaching import teaching
from model.weights.config import MixerConfig

_NUM_PARITY_IMAGES = 32
_SAVE_EVERY_S = 60.0


def train(
    dataset: Dataset,
    config: MixerConfig,
    recipe: Recipe,
    spec: ModelSpec,
    out: Path,
    *,
    initial: MlpMixer | None = None,
    teacher: Teacher | None = None,
    lessons: StoredLogits | None = None,
    device: torch.device | None = None,
    processes: Processes | None = None,
    callbacks: TrainCallbacks | None = None,
    save_every_s: float = _SAVE_EVERY_S,
) -> checkpoint.Checkpoint:
    """Train to the end and write a checkpoint folder to `out`; a killed run in `out` resumes where it was saved.

    `out` holds the last weights, `out`/best those of the epoch that did best on the validation pictures; each `spec` is
    completed with the calibration fitted to these pictures, and the metrics on them. `initial` gives the weights to
    start from, of a network of the same sizes; without it they are random. `lessons` keeps what the teacher says.

    Raises: TrainingError (settings differ from the run in `out`, a loss that is not finite), CheckpointError (`out`
    cannot be written or read) and TrainingStopped (should_stop came true, and the run is saved).
    """
    callbacks, processes = callbacks or TrainCallbacks(), processes or Processes()
    made_with = versions()  # now, as the files may have changed by the end
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run.open(RunConfig(dataset, config, recipe, initial, teacher, device, processes, lessons), out)
    for line in run.resumed:
        callbacks.on_note(line)

    def finished(model: MlpMixer, evaluation: Evaluation, calibration: Calibration) -> checkpoint.Checkpoint:
        return checkpoint.Checkpoint(
            model=model,
            spec=calibration.completed(spec.model_copy(update={"metrics": evaluation.metrics(VALIDATION)})),
            training={
                **run.state.identity,
                "history": run.state.history,
                "step": run.state.step,
                "versions": made_with,
            },
            images=dataset.val.pixels[:: max(1, len(dataset.val) // _NUM_PARITY_IMAGES)][:_NUM_PARITY_IMAGES],
        )

    def keep_best(model: MlpMixer, evaluation: Evaluation, calibration: Calibration) -> None:
        if processes.is_first:
            checkpoint.save(finished(model, evaluation, calibration), out / BEST)
        callbacks.on_best(model, evaluation, calibration)

    with silenced():  # streamed pictures have told theirs when they were read first
        run.go_on(replace(callbacks, on_best=keep_best), save_every_s)
        _, evaluation, calibration = run.evaluate()
        last = finished(run.state.averaged, evaluation, calibration)
    if processes.is_first:
        checkpoint.save(last, out)
        _draw(run.state.history, out)
    processes.wait()
    return last


def _draw(history: Sequence[Mapping[str, Any]], out: Path) -> None:
    try:
        write_curves(history, out)
    except OSError as error:
        raise TrainingError(f"{out} cannot hold the curves: {checkpoint_folder.write_failure(error, out)}") from error


def train_from(options: TrainOptions, callbacks: TrainCallbacks) -> checkpoint.Checkpoint:
    """Read pictures, checkpoint and teacher as the options say, and train. Raises MixerError of every kind."""
    expect_run_folder(options.out, options.data)
    options = with_sizes(options)
    recipe = options.chosen_recipe()
    is_slow = expect_fast(recipe.autocast, device_for(options.device), allow_slow=options.allow_slow_autocast)
    base = None if options.init is None else open_start(options.init, callbacks.on_download)
    seen = preprocess_config(options, base)
    dataset = load(
        options.data,
        seen,
        val_fraction=recipe.val_fraction,
        seed=recipe.seed,
        labels=_labels(options, base),
        progress=callbacks.on_reading,
        stream=options.stream,
    )
    callbacks.on_dataset(dataset)
    callbacks.on_findings([*describe(dataset), *near_duplicates(dataset)])
    chosen = plan(options, base, seen, dataset, callbacks)
    with joined(options.device) as (processes, device):
        callbacks.on_note(is_slow or described_precision(recipe.autocast, device))
        teacher, lessons = teaching(options, chosen.recipe, dataset, chosen.config.channels, device)
        with callbacks.stoppable():
            return train(
                dataset,
                chosen.config,
                chosen.recipe,
                chosen.spec,
                options.out,
                initial=chosen.initial,
                teacher=teacher,
                lessons=lessons,
                device=device,
                processes=processes,
                callbacks=callbacks if processes.is_first else TrainCallbacks(should_stop=callbacks.should_stop),
            )


def _labels(options: TrainOptions, base: checkpoint.Checkpoint | None) -> tuple[str, ...] | None:
    """The order of the classes: a file's, that of the head that is gone on from, or None, the folders' own."""
    if options.labels is not None:
        return read_labels(options.labels)
    return base.spec.labels if options.unfreeze and base is not None else None


def main(flags: Sequence[str]) -> None:
    """Train as one of torchrun's processes, or alone; a line an epoch on standard error."""

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    def say_all(lines: Sequence[str]) -> None:
        for line in lines:
            say(line)

    with stop_signals() as signals:
        try:
            train_from(
                parse(TrainOptions, flags, "python -m model.training.train"),
                TrainCallbacks(
                    on_epoch=lambda report: say(str(report)),
                    on_note=say,
                    on_findings=say_all,
                    on_choices=lambda choices: say_all([f"{name}: {choice}" for name, choice in choices]),
                    should_stop=signals.came,
                    stoppable=signals.waiting,
                ),
            )
        except (TrainingStopped, StopNow) as stopped:
            say(f"model.training.train: {stopped or 'stopped at once'}. To go on, give the same command again.")
            exit_without_teardown(signals.exit_code)
            sys.exit(signals.exit_code)
        except MixerError as error:
            say(f"model.training.train: {error}")
            sys.exit(2)
    exit_without_teardown()


if __name__ == "__main__":
    main(sys.argv[1:])
