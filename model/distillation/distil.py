"""A whole run of a pupil: lessons and pictures in, a checkpoint folder and a log out."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.data.dataset import Dataset, ImageSet, PreprocessConfig, read_pixels
from model.data.layout import expect_outside, find_splits, read_labels
from model.data.loading import load_for
from model.data.pillow_warnings import silenced
from model.data.scan import scan
from model.distillation.head import HEAD, Head, fit_head
from model.distillation.learner import Learner
from model.distillation.lessons import LABELS, read_codes, read_lessons
from model.distillation.options import DistilOptions
from model.errors import TrainingError, TrainingStopped
from model.evaluation.confidence import fit_calibration
from model.evaluation.curves import draw_curves
from model.evaluation.evaluate import Evaluation, all_logits, evaluate_logits
from model.network import checkpoint, checkpoint_folder
from model.network.mixer import MlpMixer
from model.preprocess import Pixels, patchify
from model.spec import Fit, Interpolation, ModelSpec, Source
from model.training.pace import Pace
from model.weights.config import MixerConfig, variant_name

STATE = "distil.pt"
LOG = "metrics.jsonl"
_INTERPOLATION: Interpolation = "bilinear"
_AT_ONCE = 64
_DRAWN = {
    "maps, half-way": "middle", "maps, at the end": "late", "features": "features", "logits": "logits",
    "labels": "labels", "validation": "val_loss",
}  # fmt: skip


@dataclass(frozen=True)
class DistilCallbacks:
    """What a run tells, and what it asks."""

    on_note: Callable[[str], None] = lambda line: None
    on_step: Callable[[int, int], None] = lambda step, total: None
    should_stop: Callable[[], bool] = lambda: False


def distil(options: DistilOptions, callbacks: DistilCallbacks) -> checkpoint.Checkpoint:
    """Train a pupil, or go on with one, and write its checkpoint. Raises MixerError of every kind."""
    expect_outside(options.out, options.data)
    labels = read_labels(options.lessons / LABELS)
    config = _config(options, len(labels))
    beginning = _beginning(options, config, labels)
    preprocess_config = PreprocessConfig(config.image_size, config.channels, Fit(mode=options.fit), _INTERPOLATION)
    no_val = TrainingError(f"{options.data} has no val/; expected it, as the lessons show all other pictures.")
    if options.data.is_dir() and "val" not in find_splits(options.data):  # known before pictures are read
        raise no_val
    dataset = load_for(options.data, preprocess_config, labels, to_calibrate=True)
    if dataset.is_held_out:  # its val/ has no class folders
        raise no_val
    pictures = _pictures(options.pictures, preprocess_config)
    codes, lessons = read_codes(options.lessons), read_lessons(options.lessons)
    if not (options.lessons / HEAD).exists():
        fit_head(lessons, len(labels)).write(options.lessons)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if len(lessons) < options.batch_size:
        raise TrainingError(f"--batch-size is {options.batch_size}; expected at most {len(lessons)}, the lessons.")
    learner = Learner(options, config, lessons, codes, Head.read(options.lessons), device)
    options.out.mkdir(parents=True, exist_ok=True)
    if beginning is not None:
        learner.begin_with(beginning)
    state = options.out / STATE
    if state.exists():
        learner.read(state)
        callbacks.on_note(f"going on after step {learner.step} of {options.steps}")
    callbacks.on_note(f"{len(lessons)} lessons, {len(dataset.judged[1])} pictures to judge by, on {device}")
    try:
        _Run(options, learner, dataset, callbacks).go_on()
        _draw(options.out)
    except OSError as error:
        raise TrainingError(
            f"{options.out} cannot hold the run: {checkpoint_folder.write_failure(error, options.out)}"
        ) from error
    if beginning is not None:
        _blend(learner.network, beginning, options.init_share)
    return _finished(options, learner, dataset, pictures, callbacks.on_note)


def _blend(network: MlpMixer, beginning: MlpMixer, share: float) -> None:
    """Move every weight of the network by that share of the way to where it began."""
    with torch.no_grad():
        for weight, first in zip(network.parameters(), beginning.parameters(), strict=True):
            weight.lerp_(first.to(weight.device), share)


def _draw(out: Path) -> None:
    rows = [json.loads(line) for line in (out / LOG).read_text(encoding="utf-8").splitlines()]
    draw_curves(rows, "step", _DRAWN, out)


class _Run:
    """The loop over steps, with its log and its saved states."""

    def __init__(self, options: DistilOptions, learner: Learner, dataset: Dataset, callbacks: DistilCallbacks) -> None:
        self._options, self._learner, self._dataset, self._callbacks = options, learner, dataset, callbacks
        self._log = options.out / LOG
        self._seconds = _seconds_in(self._log)
        self._pace = Pace()

    def go_on(self) -> None:
        """Take the steps that are left. Raises TrainingStopped, with the state saved, where that is asked for."""
        options, learner = self._options, self._learner
        started, first = time.monotonic(), learner.step
        since, before = started, learner.step
        while learner.step < options.steps:
            learner.take_step()
            if (line := self._pace.step(options.batch_size, options.steps - learner.step)) is not None:
                self._callbacks.on_note(line)
            self._callbacks.on_step(learner.step, options.steps)
            ends = learner.step == options.steps
            if learner.step % options.judge_every == 0 or ends:
                now = time.monotonic()
                rate = (learner.step - before) * options.batch_size / (now - since)
                self._note(rate, learner.step - before, self._seconds + now - started)
                since, before = time.monotonic(), learner.step
            stops = self._callbacks.should_stop()
            if learner.step % options.save_every == 0 or ends or stops:
                learner.write(options.out / STATE)
            if stops and not ends:
                raise TrainingStopped(f"stopped after step {learner.step}; {learner.step - first} of them now")

    def _note(self, rate: float, steps: int, seconds: float) -> None:
        learner = self._learner
        evaluation, _ = _judged(learner, self._dataset.judged[1])
        row: dict[str, Any] = {
            "step": learner.step,
            "seconds": round(seconds),
            "images_per_s": round(rate),
            "rate": round(learner.rate(learner.step), 4),
            **{name: round(value, 4) for name, value in learner.losses_since(steps).items()},
            "val_top1": round(evaluation.top1, 4),
            "val_loss": round(evaluation.loss, 4),
        }
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        words = " ".join(f"{name} {value}" for name, value in row.items())
        self._callbacks.on_note(words)


def _judged(learner: Learner, images: ImageSet) -> tuple[Evaluation, "np.ndarray[Any, np.dtype[np.float64]]"]:
    """The averaged network on pictures as they are, and its logits. Raises TrainingError where these are not finite."""
    network, device = learner.network, next(learner.network.parameters()).device

    def logits_of(pixels: "np.ndarray[Any, np.dtype[np.uint8]]") -> "np.ndarray[Any, np.dtype[np.float32]]":
        patches = patchify(torch.from_numpy(pixels.copy()), learner.options.patch_size).to(device)
        with torch.inference_mode():
            logits: torch.Tensor = network.classify(network.embed(patches))
        return logits.float().cpu().numpy()

    logits = all_logits(logits_of, images, batch_size=_AT_ONCE)
    try:
        return evaluate_logits(logits, images.labels), logits
    except ArithmeticError as error:
        raise TrainingError(f"the weights after step {learner.step} are no good: {error}") from error


def _finished(
    options: DistilOptions, learner: Learner, dataset: Dataset, pictures: Pixels | None, on_note: Callable[[str], None]
) -> checkpoint.Checkpoint:
    """Write the averaged network with its spec, and tell how it did."""
    split, images = dataset.judged
    _, logits = _judged(learner, images)
    calibration = fit_calibration(logits, images.labels, f"{options.data.name}, {split}")
    evaluation = evaluate_logits(logits, images.labels, calibration.temperature)
    parts = f", {options.init_share:.0%} of --init's weights in it" if options.init_share else ""
    on_note(f"the result{parts}: top-1 {evaluation.top1:.1%}, calibrated loss {evaluation.loss:.4f}")
    network = learner.network.cpu().eval()
    config = network.config
    spec = ModelSpec(
        name=options.name or options.out.resolve().name,
        variant=variant_name(config),
        image_size=config.image_size,
        patch_size=config.patch_size,
        channels=3,
        num_classes=config.num_classes,
        labels=dataset.labels,
        source=Source(origin=f"distilled from EfficientNet-lite2 on {options.data.name}", license=options.license),
        fit=Fit(mode=options.fit),
        interpolation=_INTERPOLATION,
    )
    training = {
        "options": options.model_dump(mode="json", exclude={"lessons", "data", "out", "init"}),
        "steps": learner.step,
        "judged_on": f"{len(images)} {split} pictures",
        "evaluation": asdict(evaluation),
    }
    made = checkpoint.Checkpoint(network, calibration.completed(spec), training, pictures)
    checkpoint.save(made, options.out)
    return made


def _pictures(folder: Path | None, preprocess_config: PreprocessConfig) -> Pixels | None:
    """The pictures of a folder as the network sees them, in the order of their names."""
    if folder is None:
        return None
    files = scan(folder, deep=False).images
    if not files:
        raise TrainingError(f"{folder} has no picture; expected some for the checkpoint to carry along.")
    with silenced():
        return np.stack([read_pixels(file.path, preprocess_config) for file in files])


def _beginning(options: DistilOptions, config: MixerConfig, labels: Sequence[str]) -> MlpMixer | None:
    """The network of --init. Raises TrainingError where it is none for these sizes and labels."""
    folder = options.init
    if folder is None:
        if options.init_share:
            share = options.init_share
            raise TrainingError(f"--init-share is {share}; expected --init beside it, whose share that is.")
        return None
    if folder.resolve() == options.out.resolve():
        raise TrainingError(f"--init is {folder}, which is --out; expected another folder, as a run writes to --out.")
    loaded = checkpoint.load(folder)
    if (there := loaded.spec.labels or ()) != tuple(labels):
        known = ", ".join(there) or "no labels"
        raise TrainingError(f"--init {folder} knows {known}; expected {', '.join(labels)}, as the lessons have them.")
    found, wanted = asdict(loaded.model.config), asdict(config)
    if other := [f"{name} {found[name]}, not {wanted[name]}" for name in wanted if found[name] != wanted[name]]:
        raise TrainingError(f"--init {folder} has {'; '.join(other)}; expected a network as the options have it.")
    return loaded.model


def _config(options: DistilOptions, num_classes: int) -> MixerConfig:
    try:
        return MixerConfig(
            options.image_size, options.patch_size, options.hidden_dim, options.num_blocks, options.tokens_mlp_dim,
            options.channels_mlp_dim, num_classes=num_classes, gelu="tanh",
        )  # fmt: skip
    except ValueError as error:
        raise TrainingError(str(error)) from error


def _seconds_in(log: Path) -> float:
    """How long the run has taken before now, by its log."""
    if not log.exists():
        return 0.0
    lines = log.read_text(encoding="utf-8").splitlines()
    return float(json.loads(lines[-1])["seconds"]) if lines else 0.0
