"""The inputs of a training run: its settings, and the callbacks for its progress. Knows nothing of the loop."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from model.data.dataset import Dataset
from model.evaluation.confidence import Calibration
from model.evaluation.evaluate import Evaluation
from model.network.mixer import MlpMixer
from model.recipe import Recipe
from model.training.precision import Precision, precision_for
from model.training.processes import Processes
from model.training.stored_logits import StoredLogits
from model.training.teacher import Teacher
from model.weights.config import MixerConfig


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

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}: training loss {self.train_loss:.4f}, validation loss {self.val_loss:.4f}, "
            f"top-1 {self.val_top1:.2%}, {self.images_per_s:.0f} images/s"
        )


@dataclass(frozen=True)
class TrainCallbacks:
    """Callbacks for the progress of training, and for stopping it. Counts are (done, total).

    on_download counts bytes, on_reading pictures, on_step steps. on_best gets the best weights so far.
    on_choices gets what was chosen, with the reasons; on_findings the lines about the pictures; on_dataset these.
    should_stop is polled after every step; `stoppable` is entered while it is polled.
    """

    on_download: Callable[[int, int], None] = lambda done, total: None
    on_reading: Callable[[int, int], None] = lambda done, total: None
    on_recipe: Callable[[Recipe], None] = lambda recipe: None
    on_note: Callable[[str], None] = lambda line: None
    on_choices: Callable[[Sequence[tuple[str, str]]], None] = lambda choices: None
    on_findings: Callable[[Sequence[str]], None] = lambda lines: None
    on_dataset: Callable[[Dataset], None] = lambda dataset: None
    on_step: Callable[[int, int], None] = lambda done, total: None
    on_epoch: Callable[[EpochReport], None] = lambda report: None
    on_best: Callable[[MlpMixer, Evaluation, Calibration], None] = lambda model, evaluation, calibration: None
    should_stop: Callable[[], bool] = lambda: False
    stoppable: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class RunConfig:
    """The settings of a run. `initial` gives the weights to start from, of a network of the same sizes.

    lessons: where the teacher's logits of views that repeat are kept; without it the teacher sees them each time.
    """

    dataset: Dataset
    config: MixerConfig
    recipe: Recipe
    initial: MlpMixer | None = None
    teacher: Teacher | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    processes: Processes = field(default_factory=Processes)
    lessons: StoredLogits | None = None

    @property
    def precision(self) -> Precision:
        """What the network computes in, on this device."""
        return precision_for(self.recipe.autocast, self.device)

    def identity(self) -> dict[str, Any]:
        """The settings that must not change for a run to resume, as JSON values."""
        identity = {
            "model": self.config.written(),
            "recipe": {**self.recipe.model_dump(), "autocast": self.precision},
            "data": self.dataset.fingerprint,
            "initial": None if self.initial is None else _fingerprint(self.initial),
            "teacher": None if self.teacher is None else self.teacher.name,
        }
        loaded: dict[str, Any] = json.loads(json.dumps(identity))
        return loaded


def _fingerprint(model: MlpMixer) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
