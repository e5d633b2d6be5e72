"""One training run, step by step, alone or among several processes; all of its state is saved and restored.

A run that was killed goes on from its last save exactly as it would have gone on. Knows nothing of files of pictures
(model/data), of the parts of a step (step.py) or of the command line.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch

from model.errors import TrainingError, TrainingStopped
from model.evaluation.confidence import Calibration, fit_calibration
from model.evaluation.evaluate import Evaluation, all_logits, evaluate_logits
from model.evaluation.journal import Journal
from model.network import checkpoint, checkpoint_folder
from model.network.run_folder import CONFIG, RESUME
from model.training.pace import Pace
from model.training.processes import shard_slices
from model.training.run_config import EpochReport, RunConfig, TrainCallbacks
from model.training.run_state import RunState
from model.training.start.gain import epochs_without_gain
from model.training.step import Step

VALIDATION = "validation split"  # the pictures that judge a run
_CHECK_EVERY_STEPS = 25


class Run:
    """A run from its first step. `open` returns one that is saved in its folder, new or resumed."""

    def __init__(self, run_config: RunConfig, out: Path) -> None:
        self.run_config, self.recipe, self.out = run_config, run_config.recipe, out
        self.state = RunState(run_config)
        self.step = Step(run_config, self.state)
        self.resumed: list[str] = []  # lines about a resumed run
        self._steps_per_epoch = self.step.batches.per_epoch

    @classmethod
    def open(cls, run_config: RunConfig, out: Path) -> Self:
        """The run that `out` holds, or a new one, saved: an unwritable folder is known before the first epoch.

        Raises: TrainingError where `out` holds another run or cannot be written.
        """
        run = cls(run_config, out)
        if (out / RESUME).exists():
            run.resumed = run._resumption(run.state.read(out, run._steps_per_epoch))
            run._write_rows()  # the run may have been killed between the two files
        elif (out / CONFIG).exists():
            raise TrainingError(f"{out} already holds a checkpoint; expected a new folder or a killed run's.")
        else:
            run_config.processes.wait()
            run.save()
        if run_config.lessons is not None:
            run_config.lessons.open(run_config.processes)
        return run

    @property
    def total_steps(self) -> int:
        """How many steps the whole run has."""
        return self.recipe.epochs * self._steps_per_epoch

    @property
    def is_over(self) -> bool:
        """Whether all steps are taken, or the last epochs were no better than those before."""
        return self.state.step >= self.total_steps or self._stalled

    @property
    def _stalled(self) -> bool:
        return epochs_without_gain(self.state.history) >= (self.recipe.patience or math.inf)

    @property
    def progress(self) -> str:
        """The run's progress, in words."""
        epochs, within = divmod(self.state.step, self._steps_per_epoch)
        within_words = f" and {within} of {self._steps_per_epoch} steps of the next" if within else ""
        return f"{epochs} of {self.recipe.epochs} epochs{within_words}"

    def save(self) -> None:
        """Write the state to resume from, and the rows of metrics.jsonl."""
        self._expect_finite()
        try:
            self.state.write(self.out)
        except (OSError, RuntimeError) as error:
            raise self._unwritable(error) from error
        self._write_rows()

    def go_on(self, callbacks: TrainCallbacks, save_every_s: float) -> None:
        """Take the remaining steps. Raises TrainingStopped, saved, after the step at which the run is told to stop."""
        journal = Journal(self.out, self.state.step, active=self.run_config.processes.is_first)
        try:
            self._take_steps(callbacks, save_every_s, journal)
        finally:
            self.step.batches.close()
            journal.close()

    def evaluate(self) -> tuple[Evaluation, Evaluation, Calibration]:
        """Evaluate the averaged weights on the validation pictures, each process a share of them.

        Returns the metrics at temperature 1, those at the fitted temperature, and the calibration with it.
        """
        processes, images = self.run_config.processes, self.run_config.dataset.val
        places = shard_slices(len(images), processes.count)[processes.rank]
        network = self.state.averaged
        own = all_logits(lambda pixels: checkpoint.torch_logits(network, pixels), images, places)
        gathered = processes.gather(own)
        logits = torch.cat([torch.from_numpy(part) for part in gathered if len(part)]).numpy()
        try:
            evaluation = evaluate_logits(logits, images.labels)
            calibration = fit_calibration(logits, images.labels, VALIDATION)
            return evaluation, evaluate_logits(logits, images.labels, calibration.temperature), calibration
        except ArithmeticError as error:
            raise TrainingError(f"the weights after step {self.state.step} are no good: {error}") from error

    def _take_steps(self, callbacks: TrainCallbacks, save_every_s: float, journal: Journal) -> None:
        state = self.state
        saved_at = epoch_at = time.monotonic()
        images, pace, before = 0, Pace(wait=self.step.wait), state.step
        while not self.is_over:
            taken = self.step.take()
            images += taken
            callbacks.on_step(state.step, self.total_steps)
            _tell(pace.step(taken, self.total_steps - state.step), callbacks)
            stopping = self._is_told_to_stop(callbacks)
            if state.step % self._steps_per_epoch == 0:
                self._finish_epoch(callbacks, journal, images / (time.monotonic() - epoch_at))
                epoch_at, images = time.monotonic(), 0
                _tell(pace.epoch(self.total_steps - state.step), callbacks)
            elif stopping or self._is_time_to_save(saved_at, save_every_s):
                self.save()
                saved_at = time.monotonic()
            elif state.step % _CHECK_EVERY_STEPS == 0:
                self._expect_finite()
                journal.note_step(state.step, self._mean_loss(), self.step.learning_rate)
            if stopping and not self.is_over:
                raise TrainingStopped(f"stopped; {self.out} holds {self.progress}")
        if before < state.step < self.total_steps:
            callbacks.on_note(f"ended after {self.progress}: {self._no_gain}")

    def _is_told_to_stop(self, callbacks: TrainCallbacks) -> bool:
        """Several processes agree at some steps only: it takes time, and all of them must stop at one step."""
        if self.run_config.processes.count == 1:
            return callbacks.should_stop()
        is_asked = self.state.step % _CHECK_EVERY_STEPS == 0 or self.state.step % self._steps_per_epoch == 0
        return is_asked and any(self.run_config.processes.gather(callbacks.should_stop()))

    def _is_time_to_save(self, saved_at: float, save_every_s: float) -> bool:
        """By the first process's clock, as all processes save together."""
        due = time.monotonic() - saved_at > save_every_s
        if self.run_config.processes.count > 1:
            due = self.state.step % _CHECK_EVERY_STEPS == 0 and self.run_config.processes.gather(due)[0]
        return due

    def _finish_epoch(self, callbacks: TrainCallbacks, journal: Journal, images_per_s: float) -> None:
        state = self.state
        self._expect_finite()
        evaluation, calibrated, calibration = self.evaluate()
        report = EpochReport(
            epoch=state.step // self._steps_per_epoch,
            train_loss=self._mean_loss(),
            val_loss=evaluation.loss,
            val_top1=evaluation.top1,
            val_calibration_error=evaluation.calibration_error,
            learning_rate=self.step.learning_rate,
            images_per_s=images_per_s,
        )
        journal.note_epoch(state.step, asdict(report))
        best_before = max((row["val_top1"] for row in state.history), default=-1.0)
        state.history.append(asdict(report))
        if evaluation.top1 > best_before:
            callbacks.on_best(state.averaged, calibrated, calibration)
        state.epoch_loss = torch.zeros_like(state.epoch_loss)
        self.save()
        callbacks.on_epoch(report)

    def _mean_loss(self) -> float:
        """The mean loss of this epoch's steps so far, or of the epoch that has just ended."""
        return self.state.summed_loss / (self.state.step % self._steps_per_epoch or self._steps_per_epoch)

    def _expect_finite(self) -> None:
        """Checked before anything is written. Every process has the same sum, so all of them end together."""
        loss = self.state.summed_loss
        if loss - loss != 0:
            raise TrainingError(
                f"the loss is {loss} by step {self.state.step}; try a --learning-rate below "
                f"{self.step.learning_rate:.3g}, in another --out: {self.out} goes on with the rate that it was "
                "started with."
            )

    @property
    def _no_gain(self) -> str:
        return (
            f"neither the loss nor the accuracy on the validation pictures was better for {self.recipe.patience} "
            "epochs (--patience; 0 goes on to the end)"
        )

    def _resumption(self, before: Mapping[str, Any]) -> list[str]:
        """Lines about a resumed run. `before`: the earlier epochs and precision, where they have changed."""
        if self._stalled and self.state.step < self.total_steps:
            return [f"{self.out} holds a run that has ended after {self.progress}: {self._no_gain}"]
        if self.state.step == self.total_steps:
            return [
                f"{self.out} holds a run that is finished: {self.progress}. More --epochs go on with it; to begin "
                "anew, give another --out, or delete that folder first."
            ]
        lines = []
        if self.state.step:
            lines.append(f"going on with the run in {self.out}: {self.progress} are done")
        if "autocast" in before:
            lines.append(f"precision {self.run_config.precision} in place of {before['autocast']} from here on")
        if "epochs" in before:
            lines.append(
                f"{self.recipe.epochs} epochs in place of {before['epochs']}: from here the learning rate follows the "
                f"schedule of {self.recipe.epochs}, and is {self.step.learning_rate:.3g}"
            )
        return lines

    def _write_rows(self) -> None:
        if self.run_config.processes.is_first:
            try:
                Journal.write_rows(self.out, self.state.history)
            except OSError as error:
                raise self._unwritable(error) from error

    def _unwritable(self, error: OSError | RuntimeError) -> TrainingError:
        return TrainingError(f"{self.out} cannot be written: {checkpoint_folder.write_failure(error, self.out)}")


def _tell(line: str | None, callbacks: TrainCallbacks) -> None:
    if line is not None:
        callbacks.on_note(line)
