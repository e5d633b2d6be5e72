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
from model.recipe import Recipe
from model.training.processes import Processes
from model.training.teacher import Teacher


@dataclass(frozen=True)
class Setting:
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
    """Raises TrainingError, naming the first thing in which the run in `out` differs from the one that is wanted."""
    for part, what in (
        ("data", "on other data"),
        ("initial", "from other initial weights"),
        ("teacher", "with another teacher"),
    ):
        if saved.get(part) != wanted[part]:
            raise TrainingError(f"{out} holds a run {what}; expected the same, or another folder.")
    for part in ("model", "recipe"):
        for name, value in wanted[part].items():
            found = saved[part].get(name)
            if found != value:
                raise TrainingError(f"{out} holds a run with {name} {found}; expected {value}, or another folder.")


def _fingerprint(model: MlpMixer) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
