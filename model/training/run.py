"""One training run, step by step, alone or among several processes; all of its state is saved and restored.

A run that was killed goes on from its last save exactly as it would have gone on. Knows nothing of files of pictures
(model/data), of how they vary (batches.py) or of the command line.
"""

import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.data.dataset import ImageSet
from model.errors import TrainingError, TrainingStopped
from model.evaluation.evaluate import Evaluation, all_logits, evaluate_logits, fit_temperature
from model.network import checkpoint
from model.network.mixer import MlpMixer
from model.old_names import renamed
from model.training.batches import Batches, Part
from model.training.journal import Journal
from model.training.loss import summed_loss
from model.training.optimizers import build_optimizers, sam_perturbation
from model.training.processes import shard_slices
from model.training.run_config import RunConfig, expect_same, new_length
from model.training.run_folder import RESUME
from model.training.schedule import learning_rate

_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CHECK_EVERY_STEPS = 25


@dataclass(frozen=True)
class EpochReport:
    """One line of metrics.jsonl."""

    epoch: int
    train_loss: float
    val_loss: float
    val_top1: float
    val_calibration_error: float
    learning_rate: float
    images_per_s: float


@dataclass(frozen=True)
class Observer:
    """What a run tells whoever watches it. `on_best` gets weights that do better than any before."""

    on_step: Callable[[int, int], None] = lambda step, total: None
    on_epoch: Callable[[EpochReport], None] = lambda report: None
    on_best: Callable[[MlpMixer, Evaluation, float], None] = lambda model, evaluation, temperature: None
    on_note: Callable[[str], None] = lambda line: None


class Run:
    """The state of a run. Raises TrainingError where `out` holds another run or cannot be written."""

    def __init__(self, run_config: RunConfig, out: Path) -> None:
        self.run_config, self.recipe, self.out = run_config, run_config.recipe, out
        device, processes = run_config.device, run_config.processes
        torch.manual_seed(self.recipe.seed)
        self.model = MlpMixer(run_config.config).to(device)
        if run_config.initial is not None:
            self.model.load_state_dict(run_config.initial.state_dict())
        self.average = MlpMixer(run_config.config).to(device).eval()
        self.average.load_state_dict(self.model.state_dict())
        self.optimizers = build_optimizers(self.model, self.recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.recipe.autocast == "fp16")
        self.batches = Batches(
            run_config.dataset.train,
            self.recipe,
            run_config.config.num_classes,
            run_config.config.num_blocks,
            device,
            run_config.teacher,
        )
        self.step = 0
        self.epoch_loss = torch.zeros((), dtype=torch.float64, device=device)
        self.history: list[dict[str, Any]] = []
        self.identity = run_config.identity()
        self.resumed: list[str] = []  # what there is to say of a run that goes on
        self._resume()
        self.journal = Journal(out, self.step, active=processes.is_first)
        self._network: nn.Module = self.model
        if processes.count > 1:
            self._network = DistributedDataParallel(self.model)
        if self.recipe.compile:
            self._network = torch.compile(self._network)  # type: ignore[assignment]

    @property
    def total_steps(self) -> int:
        """How many steps the whole run has."""
        return self.recipe.epochs * self.batches.per_epoch

    @property
    def progress(self) -> str:
        """How far the run is, in words."""
        epochs, within = divmod(self.step, self.batches.per_epoch)
        within_words = f" and {within} of {self.batches.per_epoch} steps of the next" if within else ""
        return f"{epochs} of {self.recipe.epochs} epochs{within_words}"

    # --- saving and resuming ---

    def save(self) -> None:
        """Write everything that the run needs to go on, and the rows of metrics.jsonl."""
        self._expect_finite()
        epoch_loss = self.run_config.processes.sum(self.epoch_loss)
        if not self.run_config.processes.is_first:
            return
        state = {
            "identity": self.identity,
            "step": self.step,
            "epoch_loss": epoch_loss,
            "history": self.history,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
        }
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            checkpoint.write_atomically(self.out / RESUME, lambda path: _write(state, path))
            Journal.write_rows(self.out, self.history)
        except (OSError, RuntimeError) as error:
            raise TrainingError(f"{self.out} cannot be written: {checkpoint.write_failure(error, self.out)}") from error

    def _resume(self) -> None:
        path = self.out / RESUME
        if not path.exists():
            if (self.out / checkpoint.CONFIG).exists():
                raise TrainingError(f"{self.out} already holds a checkpoint; expected a new folder or a killed run's.")
            self.run_config.processes.wait()
            self.save()  # an unwritable folder is known before the first epoch, not after it
            return
        try:
            state = renamed(torch.load(path, map_location=self.run_config.device, weights_only=True))
            expect_same(state["identity"], self.identity, self.out)
            epochs = new_length(state["identity"], self.recipe, state["step"], self.batches.per_epoch, self.out)
            self._restore(state)
            self.resumed = self._resumption(epochs)
            if self.run_config.processes.is_first:
                Journal.write_rows(self.out, self.history)  # the run may have been killed between the two files
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise TrainingError(f"{path} cannot be read as a run to resume: {error}") from error

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.history = state["step"], state["history"]
        if self.run_config.processes.is_first:  # it holds what all of them lost
            self.epoch_loss = state["epoch_loss"]

    def _resumption(self, epochs: int | None) -> list[str]:
        """`epochs`: how many there were to be, where that has changed."""
        if self.step == self.total_steps:
            return [
                f"{self.out} holds a run that is finished: {self.progress}. More --epochs go on with it; to begin "
                "anew, give another --out, or delete that folder first."
            ]
        lines = []
        if self.step:
            lines.append(f"going on with the run in {self.out}: {self.progress} are done")
        if epochs is not None:
            lines.append(
                f"{self.recipe.epochs} epochs in place of {epochs}: from here the learning rate follows the schedule "
                f"of {self.recipe.epochs}, and is {self._learning_rate():.3g}"
            )
        return lines

    # --- training ---

    def go_on(self, observer: Observer, save_every_s: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Take every step that is left. Raises TrainingStopped, saved, after the step in which `stop` has come true."""
        saved_at = epoch_at = time.monotonic()
        images = 0
        while self.step < self.total_steps:
            images += self._step()
            observer.on_step(self.step, self.total_steps)
            stopping = self._is_told_to_stop(stop)
            if self.step % self.batches.per_epoch == 0:
                self._finish_epoch(observer, images / (time.monotonic() - epoch_at))
                epoch_at, images = time.monotonic(), 0
            elif stopping or self._is_time_to_save(saved_at, save_every_s):
                self.save()
                saved_at = time.monotonic()
            elif self.step % _CHECK_EVERY_STEPS == 0:
                self._expect_finite()
                self.journal.note_step(self.step, self._mean_loss(), self._learning_rate())
            if stopping and self.step < self.total_steps:
                self.journal.close()
                raise TrainingStopped(f"stopped; {self.out} holds {self.progress}")
        self.journal.close()

    def _is_told_to_stop(self, stop: Callable[[], bool]) -> bool:
        """Several processes ask each other at some steps only: it takes time, and all of them must stop at one step."""
        if self.run_config.processes.count == 1:
            return stop()
        is_asked = self.step % _CHECK_EVERY_STEPS == 0 or self.step % self.batches.per_epoch == 0
        return is_asked and any(self.run_config.processes.gather(stop()))

    def _is_time_to_save(self, saved_at: float, save_every_s: float) -> bool:
        """By the first process's clock: saving is something that all of them do."""
        due = time.monotonic() - saved_at > save_every_s
        if self.run_config.processes.count > 1:
            due = self.step % _CHECK_EVERY_STEPS == 0 and self.run_config.processes.gather(due)[0]
        return due

    def _step(self) -> int:
        """One batch; returns how many pictures it had."""
        rate = self._learning_rate()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        total = len(self.batches.rows(self.step))
        mine = self._places(total)
        own = [self.batches.part(self.step, places) for places in mine]
        loss = self._gradients(own, total)
        if self.recipe.sam_rho:
            with sam_perturbation(self.model.parameters(), self.recipe.sam_rho):
                self._gradients(own, total)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        if not self.scaler.is_enabled() or norm.isfinite():  # where one optimizer's gradients overflow, none may step
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
        self.scaler.update()
        self._move_average()
        self.epoch_loss += loss
        self.step += 1
        return total

    def _places(self, total: int) -> list[slice]:
        """The parts of a batch that are this process's."""
        rank, each = self.run_config.processes.rank, self.recipe.accumulate
        return shard_slices(total, self.run_config.processes.count * each)[rank * each : (rank + 1) * each]

    def _gradients(self, own: list[Part], total: int) -> Tensor:
        """Leave the batch's mean gradient in the parameters; return this process's share of the mean loss."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros_like(self.epoch_loss)
        for index, part in enumerate(own):
            if isinstance(self._network, DistributedDataParallel):
                self._network.require_backward_grad_sync = index == len(own) - 1
            with torch.autocast(
                self.run_config.device.type,
                _HALVES.get(self.recipe.autocast, torch.bfloat16),
                enabled=self.recipe.autocast != "off",
            ):
                logits = self._network(part.pixels, part.branch_scales).float()
            mean = summed_loss(logits, part.targets, part.teacher_logits, self.recipe) / total
            # DDP takes the mean over processes of what are shares of a sum
            self.scaler.scale(mean * self.run_config.processes.count).backward()  # type: ignore[no-untyped-call]
            loss += mean.detach()
        return loss

    def _learning_rate(self) -> float:
        return learning_rate(self.step, self.batches.per_epoch, self.recipe)

    def _mean_loss(self) -> float:
        """Of the steps of this epoch so far, or of the epoch that has just ended."""
        steps = self.step % self.batches.per_epoch or self.batches.per_epoch
        return self.run_config.processes.sum(self.epoch_loss).item() / steps

    def _expect_finite(self) -> None:
        """Before anything is written. Every process sees the same sum, so all of them end together."""
        loss = self.run_config.processes.sum(self.epoch_loss).item()
        if loss - loss != 0:
            raise TrainingError(
                f"the loss is {loss} by step {self.step}; try a --learning-rate below {self._learning_rate():.3g}, "
                f"in another --out: {self.out} goes on with the rate that it was started with."
            )

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        averages: list[Tensor] = list(self.average.parameters())
        parameters: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(averages, parameters, 1 - decay)

    def _finish_epoch(self, observer: Observer, images_per_s: float) -> None:
        self._expect_finite()
        evaluation, calibrated, temperature = self.evaluate()
        report = EpochReport(
            epoch=self.step // self.batches.per_epoch,
            train_loss=self._mean_loss(),
            val_loss=evaluation.loss,
            val_top1=evaluation.top1,
            val_calibration_error=evaluation.calibration_error,
            learning_rate=self._learning_rate(),
            images_per_s=images_per_s,
        )
        self.journal.note_epoch(self.step, asdict(report))
        best_before = max((row["val_top1"] for row in self.history), default=-1.0)
        self.history.append(asdict(report))
        if evaluation.top1 > best_before:
            observer.on_best(self.average, calibrated, temperature)
        self.epoch_loss = torch.zeros_like(self.epoch_loss)
        self.save()
        observer.on_epoch(report)

    def evaluate(self) -> tuple[Evaluation, Evaluation, float]:
        """The averaged weights on the validation pictures, each process a share of them.

        Judged at temperature 1, and at the temperature fitted to these pictures, which comes third.
        """
        processes, images = self.run_config.processes, self.run_config.dataset.val
        places = shard_slices(len(images), processes.count)[processes.rank]
        own = ImageSet(images.pixels[places], images.labels[places])
        gathered = processes.gather(all_logits(lambda pixels: checkpoint.torch_logits(self.average, pixels), own))
        logits = torch.cat([torch.from_numpy(part) for part in gathered if len(part)]).numpy()
        try:
            evaluation = evaluate_logits(logits, images.labels)
            temperature = fit_temperature(logits, images.labels)
            return evaluation, evaluate_logits(logits, images.labels, temperature), temperature
        except ArithmeticError as error:
            raise TrainingError(f"the weights after step {self.step} are no good: {error}") from error


def _write(state: dict[str, Any], path: Path) -> None:
    """Through a file of Python, whose errors say why; torch's own only say where in its code."""
    with path.open("wb") as file:
        torch.save(state, file)
