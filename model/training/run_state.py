"""The state of a run: as values, as a file, and a check that a file's run has the same settings.

Knows nothing of the training step, nor of the folder's other files.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from model.errors import TrainingError
from model.network import checkpoint_folder
from model.network.mixer import MlpMixer
from model.network.run_folder import RESUME
from model.old_names import renamed
from model.recipe import Recipe
from model.training.optimizers import build_optimizers, moving_average
from model.training.run_config import RunConfig

_MAY_CHANGE = ("epochs", "autocast", "patience")  # from one part of a run to the next


class RunState:
    """The state of a run before its first step; `read` gives that of a later one."""

    def __init__(self, run_config: RunConfig) -> None:
        self._run_config, recipe, device = run_config, run_config.recipe, run_config.device
        torch.manual_seed(recipe.seed)
        self.identity = run_config.identity()
        self.model = MlpMixer(run_config.config).to(device)
        if run_config.initial is not None:
            self.model.load_state_dict(run_config.initial.state_dict())
        self.average = moving_average(self.model, recipe.ema_decay)
        self.optimizers = build_optimizers(self.model, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=run_config.precision == "fp16")
        self.step = 0
        self.epoch_loss = torch.zeros((), dtype=torch.float64, device=device)
        self.history: list[dict[str, Any]] = []

    @property
    def averaged(self) -> MlpMixer:
        """The network with the averaged weights, the result of a run."""
        return cast(MlpMixer, self.average.module)

    @property
    def summed_loss(self) -> float:
        """The summed loss of this epoch's steps so far, over all processes."""
        return self._run_config.processes.sum(self.epoch_loss).item()

    def write(self, out: Path) -> None:
        """Save the state to resume from; the first process writes. Raises OSError or RuntimeError."""
        epoch_loss = self._run_config.processes.sum(self.epoch_loss)
        if not self._run_config.processes.is_first:
            return
        saved = {
            "identity": self.identity,
            "step": self.step,
            "epoch_loss": epoch_loss,
            "history": self.history,
            "model": self.model.state_dict(),
            "average": self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
        }
        out.mkdir(parents=True, exist_ok=True)
        checkpoint_folder.write_atomically(out / RESUME, lambda path: _write(saved, path))

    def read(self, out: Path, steps_per_epoch: int) -> dict[str, Any]:
        """Load the state that was saved in `out`. Returns that run's `epochs` and `autocast`, those that have changed.

        Raises: TrainingError where the file is broken, or of another run.
        """
        path = out / RESUME
        try:
            saved = renamed(torch.load(path, map_location=self._run_config.device, weights_only=True))
            expect_same(saved["identity"], self.identity, out)
            before = saved["identity"]["recipe"]
            expect_length(before["epochs"], self._run_config.recipe, saved["step"], steps_per_epoch, out)
            self._restore(saved)
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise TrainingError(f"{path} cannot be read as a run to resume: {error}") from error
        return {name: before[name] for name in _MAY_CHANGE if before[name] != self.identity["recipe"][name]}

    def _restore(self, saved: Mapping[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.averaged.load_state_dict(saved["average"])
        self.average.n_averaged.fill_(1 + saved["step"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        if saved["scaler"]:  # else it was not saved in fp16
            self.scaler.load_state_dict(saved["scaler"])
        self.step, self.history = saved["step"], saved["history"]
        if self._run_config.processes.is_first:  # it has the loss of all processes
            self.epoch_loss = saved["epoch_loss"]


def expect_same(saved: Mapping[str, Any], wanted: Mapping[str, Any], out: Path) -> None:
    """Raises TrainingError with every setting in which the run in `out` differs.

    The number of epochs may change (see `expect_length`), and the precision. A setting that the run's version did not
    have is taken for its default.
    """
    differences = [
        what
        for part, what in (
            ("data", "on other data"),
            ("initial", "from other initial weights"),
            ("teacher", "with another teacher"),
        )
        if saved.get(part) != wanted[part]
    ]
    for part in ("model", "recipe"):
        before = (Recipe().model_dump() if part == "recipe" else {}) | renamed(saved[part])
        differences += [
            f"with {name} {_shown(before.get(name))} (now {_shown(value)})"
            for name, value in wanted[part].items()
            if before.get(name) != value and name not in _MAY_CHANGE
        ]
    if differences:
        raise TrainingError(
            f"{out} holds a run {', '.join(differences)}. To go on with it, give what it was started with; to begin "
            "anew, give another --out, or delete that folder first."
        )


def expect_length(epochs: int, wanted: Recipe, step: int, steps_per_epoch: int, out: Path) -> None:
    """Raises TrainingError where the run in `out`, of so many epochs, has passed the current number."""
    if step > wanted.epochs * steps_per_epoch:
        raise TrainingError(
            f"--epochs is {wanted.epochs}; the run in {out} has done {step / steps_per_epoch:.4g} of its {epochs} "
            "epochs. Give more to go on with it; to begin anew, give another --out, or delete that folder first."
        )


def _shown(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _write(saved: dict[str, Any], path: Path) -> None:
    """Through a Python file, whose errors have a reason; torch's own name only a line of its code."""
    with path.open("wb") as file:
        torch.save(saved, file)
