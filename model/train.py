"""One training run: AdamW or Muon, warm-up and cosine, label smoothing, moving average, evaluation every epoch.

Everything random is a function of (seed, epoch, step), so a run that was killed goes on from its last save exactly as
it would have gone on. Knows nothing of files of pictures (data.py) or of the command line.
"""

import hashlib
import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from model import checkpoint
from model.augment import augment
from model.data import Dataset
from model.errors import TrainingError
from model.evaluate import Evaluation, Logits, all_logits, evaluate, fit_temperature
from model.mixer import MixerConfig, MlpMixer
from model.optimisers import build_optimisers
from model.preprocess import Pixels
from model.recipe import Recipe
from model.spec import Metrics, ModelSpec

RESUME = "resume.pt"
METRICS = "metrics.jsonl"
_NUM_PROOF_PICTURES = 32
_SAVE_EVERY_S = 60.0


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
    """What a run tells whoever watches it."""

    on_step: Callable[[int, int], None] = lambda step, total: None
    on_epoch: Callable[[EpochReport], None] = lambda report: None


def train(
    dataset: Dataset,
    config: MixerConfig,
    recipe: Recipe,
    spec: ModelSpec,
    out: Path,
    *,
    initial: MlpMixer | None = None,
    device: torch.device | None = None,
    observer: Observer | None = None,
    save_every_s: float = _SAVE_EVERY_S,
) -> checkpoint.Checkpoint:
    """Train to the end and write a checkpoint folder to `out`; a killed run's `out` is picked up where it was saved.

    `initial` gives the weights to start from, of a network of the same sizes; without it they are random.

    `spec` is completed with the temperature fitted to the validation pictures, and the metrics on them.

    Raises: TrainingError (settings differ from the run in `out`, a loss that is not finite) and CheckpointError (`out`
    cannot be written or read).
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = _Run(dataset, config, recipe, out, device, initial)
    run.resume()
    run.go_on(observer or Observer(), save_every_s)
    temperature = run.fit_temperature()
    evaluation = run.evaluate(temperature)
    metrics = Metrics(
        data_set="validation split",
        num_pictures=evaluation.num_pictures,
        top1=evaluation.top1,
        top5=evaluation.top5,
        calibration_error=evaluation.calibration_error,
    )
    result = checkpoint.Checkpoint(
        model=run.average,
        spec=spec.model_copy(update={"metrics": metrics, "temperature": temperature}),
        training={**run.identity, "history": run.history, "torch": torch.__version__},
        pictures=dataset.val.pixels[:: max(1, len(dataset.val) // _NUM_PROOF_PICTURES)][:_NUM_PROOF_PICTURES],
    )
    checkpoint.save(result, out)
    return result


class _Run:
    """The state of a run: all of it is saved, all of it is restored."""

    def __init__(
        self,
        dataset: Dataset,
        config: MixerConfig,
        recipe: Recipe,
        out: Path,
        device: torch.device,
        initial: MlpMixer | None,
    ) -> None:
        self.dataset, self.recipe, self.out, self.device = dataset, recipe, out, device
        torch.manual_seed(recipe.seed)
        self.model = MlpMixer(config).to(device)
        if initial is not None:
            self.model.load_state_dict(initial.state_dict())
        self.average = MlpMixer(config).to(device).eval()
        self.average.load_state_dict(self.model.state_dict())
        self.optimisers = build_optimisers(self.model, recipe)
        self.steps_per_epoch = math.ceil(len(dataset.train) / recipe.batch_size)
        self.step = 0
        self.epoch_loss = 0.0
        self.history: list[dict[str, Any]] = []
        self.identity = json.loads(
            json.dumps(
                {
                    "model": asdict(config),
                    "recipe": recipe.model_dump(),
                    "data": dataset.fingerprint,
                    "initial": None if initial is None else _fingerprint(initial),
                }
            )
        )

    @property
    def total_steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    # --- saving and resuming ---

    def save(self) -> None:
        state = {
            "identity": self.identity,
            "step": self.step,
            "epoch_loss": self.epoch_loss,
            "history": self.history,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            checkpoint.write_atomically(self.out / RESUME, lambda path: torch.save(state, path))
            self._write_history()
        except (OSError, RuntimeError) as error:
            raise TrainingError(f"{self.out} cannot be written: {error}") from error

    def _write_history(self) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self.history)
        checkpoint.write_atomically(self.out / METRICS, lambda path: path.write_text(lines))

    def resume(self) -> None:
        path = self.out / RESUME
        if not path.exists():
            if (self.out / checkpoint.CONFIG).exists():
                raise TrainingError(f"{self.out} already holds a checkpoint; expected a new folder or a killed run's.")
            self.save()  # an unwritable folder is known before the first epoch, not after it
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            _expect_same(state["identity"], self.identity, self.out)
            self._restore(state)
            self._write_history()  # the run may have been killed between the two files
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise TrainingError(f"{path} cannot be read as a run to resume: {error}") from error

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.epoch_loss, self.history = state["step"], state["epoch_loss"], state["history"]

    # --- training ---

    def go_on(self, observer: Observer, save_every_s: float) -> None:
        saved_at = time.monotonic()
        while self.step < self.total_steps:
            epoch_started, images = time.monotonic(), 0
            for pixels, labels in self._batches():
                self._step(pixels, labels)
                images += len(labels)
                observer.on_step(self.step, self.total_steps)
                # An epoch's last step is saved with its row, in _finish_epoch: never one without the other.
                if time.monotonic() - saved_at > save_every_s and self.step % self.steps_per_epoch:
                    self.save()
                    saved_at = time.monotonic()
            observer.on_epoch(self._finish_epoch(images / (time.monotonic() - epoch_started)))

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The rest of the current epoch: its order depends on (seed, epoch), a batch's variation on (seed, step)."""
        pictures, size = self.dataset.train, self.recipe.batch_size
        epoch, done = divmod(self.step, self.steps_per_epoch)
        order = torch.randperm(len(pictures), generator=self._generator(epoch, "cpu")).numpy()
        for start in range(done * size, len(pictures), size):
            chosen = order[start : start + size]
            pixels = torch.from_numpy(pictures.pixels[chosen]).to(self.device)
            generator = self._generator(self.recipe.epochs + self.step, self.device)
            labels = torch.from_numpy(pictures.labels[chosen]).to(self.device)
            yield augment(pixels, self.recipe, generator), labels

    def _generator(self, number: int, device: torch.device | str) -> torch.Generator:
        return torch.Generator(device).manual_seed(self.recipe.seed * 1_000_003 + number)

    def _step(self, pixels: Tensor, labels: Tensor) -> None:
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)  # stochastic depth draws from torch's own generator
        rate = self._learning_rate()
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = rate
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.autocast == "bf16"):
            logits = self.model(pixels).float()
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is {loss.item()} at step {self.step}; try a learning_rate below {rate:g}.")
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        for optimiser in self.optimisers:
            optimiser.step()
        self._move_average()
        self.epoch_loss += loss.item()
        self.step += 1

    def _learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to zero."""
        warmup = self.recipe.warmup_epochs * self.steps_per_epoch
        if self.step < warmup:
            return self.recipe.learning_rate * (self.step + 1) / warmup
        progress = (self.step - warmup) / max(1.0, self.total_steps - warmup)
        return self.recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        averages: list[Tensor] = list(self.average.parameters())
        parameters: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(averages, parameters, 1 - decay)

    def _finish_epoch(self, images_per_s: float) -> EpochReport:
        evaluation = self.evaluate()
        report = EpochReport(
            epoch=self.step // self.steps_per_epoch,
            train_loss=self.epoch_loss / self.steps_per_epoch,
            val_loss=evaluation.loss,
            val_top1=evaluation.top1,
            val_calibration_error=evaluation.calibration_error,
            learning_rate=self._learning_rate(),
            images_per_s=images_per_s,
        )
        self.epoch_loss = 0.0
        self.history.append(asdict(report))
        self.save()
        return report

    def _logits(self, pixels: Pixels) -> Logits:
        return checkpoint.torch_logits(self.average, pixels)

    def fit_temperature(self) -> float:
        """The temperature that calibrates the averaged weights on the validation pictures."""
        return fit_temperature(all_logits(self._logits, self.dataset.val), self.dataset.val.labels)

    def evaluate(self, temperature: float = 1.0) -> Evaluation:
        """The averaged weights on the validation pictures."""
        try:
            return evaluate(self._logits, self.dataset.val, temperature=temperature)
        except ArithmeticError as error:
            raise TrainingError(f"the weights after step {self.step} are no good: {error}") from error


def _expect_same(saved: dict[str, Any], wanted: dict[str, Any], out: Path) -> None:
    if saved["data"] != wanted["data"]:
        raise TrainingError(f"{out} holds a run on other data; expected the same pictures, or another folder.")
    if saved.get("initial") != wanted["initial"]:
        raise TrainingError(f"{out} holds a run from other initial weights; expected the same, or another folder.")
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
