"""What a run is about, and how to tell whether another one is about the same. Knows nothing of how it goes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from model.data.dataset import Dataset
from model.errors import TrainingError
from model.network.mixer import MixerConfig, MlpMixer
from model.old_names import renamed
from model.recipe import Recipe
from model.training.processes import Processes
from model.training.teacher import Teacher


@dataclass(frozen=True)
class RunConfig:
    """What a run is about. `initial` gives the weights to start from, of a network of the same sizes."""

    dataset: Dataset
    config: MixerConfig
    recipe: Recipe
    initial: MlpMixer | None = None
    teacher: Teacher | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    processes: Processes = field(default_factory=Processes)

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be gone on with, as JSON knows it."""
        identity = {
            "model": asdict(self.config),
            "recipe": self.recipe.model_dump(),
            "data": self.dataset.fingerprint,
            "initial": None if self.initial is None else _fingerprint(self.initial),
            "teacher": None if self.teacher is None else self.teacher.name,
        }
        loaded: dict[str, Any] = json.loads(json.dumps(identity))
        return loaded


def expect_same(saved: Mapping[str, Any], wanted: Mapping[str, Any], out: Path) -> None:
    """Raises TrainingError with everything in which the run in `out` differs from the one that is wanted.

    How many epochs there are may change: see `extend`.
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
        before = renamed(saved[part])
        differences += [
            f"with {name} {_shown(before.get(name))} (now {_shown(value)})"
            for name, value in wanted[part].items()
            if before.get(name) != value and name != "epochs"
        ]
    if differences:
        raise TrainingError(
            f"{out} holds a run {', '.join(differences)}. To go on with it, give what it was started with; to begin "
            "anew, give another --out, or delete that folder first."
        )


def new_length(saved: Mapping[str, Any], wanted: Recipe, step: int, steps_per_epoch: int, out: Path) -> int | None:
    """How many epochs the run in `out` was to have, if that is another number than is wanted now, or None.

    Raises: TrainingError where it has gone further than that.
    """
    epochs: int = saved["recipe"]["epochs"]
    if step > wanted.epochs * steps_per_epoch:
        raise TrainingError(
            f"--epochs is {wanted.epochs}; the run in {out} has done {step / steps_per_epoch:.4g} of its {epochs} "
            "epochs. Give more to go on with it; to begin anew, give another --out, or delete that folder first."
        )
    return None if epochs == wanted.epochs else epochs


def _shown(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _fingerprint(model: MlpMixer) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
