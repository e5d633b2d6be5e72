"""The teacher's last blocks, trained on DATA's labels, and kept where it then answers better. Knows no lessons.

All before them stays as ImageNet left it and runs once over each view; the blocks learn from what leaves it. Better is
what a linear head on their features says of the validation pictures, as lessons are taught by such a head.
"""

import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.distillation.bank import Bank
from model.distillation.head import Head, fit
from model.distillation.lessons import Progress
from model.distillation.teacher import SIDE
from model.distillation.views import Variation, ViewMaker
from model.errors import TrainingError
from model.evaluation.confidence import fit_calibration
from model.evaluation.evaluate import evaluate_logits
from model.network.checkpoint_folder import write_atomically, write_failure

ENDING = "ending.pt"
_AT_ONCE = 64
_MOST_VIEWS = 60_000  # 15 kB each
_WARMUP = 100
_AVERAGE = 0.995
_MIXED = 0.2  # of the Beta distribution that what enters is mixed by in every other step (arXiv 1806.05236)


class Tunable(Protocol):
    """A teacher whose last blocks can be trained: what enters them, and they, as [N, ...] -> (maps, features)."""

    ending: nn.Module

    def enter(self, pixels: Tensor) -> Tensor:
        """What enters the ending, of uint8 [N, 3, 192, 192]."""
        ...


@dataclass(frozen=True)
class Tuning:
    """views: of each labelled picture, beside itself. passes: over all of them. rate: of AdamW, the highest."""

    views: int = 8
    passes: float = 1.5
    rate: float = 3e-4
    smoothing: float = 0.1
    seed: int = 0


class _Seen(NamedTuple):
    """What enters the ending, float16 [N, ...], and the labels int64 [N]."""

    entering: Tensor
    labels: Tensor

    def features(self, ending: nn.Module) -> Tensor:
        """float32 [N, F]."""
        with torch.inference_mode():
            return torch.cat([ending(_ready(part))[1] for part in torch.split(self.entering, _AT_ONCE)])


def _ready(entering: Tensor) -> Tensor:
    """float32 with channels last, in which convolutions on a processor take a third of the time."""
    return entering.float().contiguous(memory_format=torch.channels_last)


class _Judged(NamedTuple):
    """A head on an ending's features, and what it says of the validation pictures: top-1, and its loss calibrated."""

    head: Head
    top1: float
    loss: float


def fine_tuned(
    teacher: Tunable, bank: Bank, judged_by: Bank, tuning: Tuning,
    progress: Progress = lambda done, total: None, on_note: Callable[[str], None] = lambda line: None,
) -> nn.Module:  # fmt: skip
    """The teacher's ending, trained; or as it was, where that has the lower loss on the pictures of `judged_by`."""
    seen, judges = _views(teacher, bank, tuning, progress), _plain(teacher, judged_by)
    before = _judged(teacher.ending, seen, judges, len(bank.names))
    ending = deepcopy(teacher.ending).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ending = _trained(ending, before.head, seen, tuning, progress)
    after = _judged(ending, seen, judges, len(bank.names))
    is_better = after.loss < before.loss
    on_note(
        f"a linear head on the teacher's features: top-1 {before.top1:.1%}, loss {before.loss:.3f}; fine-tuned "
        f"{after.top1:.1%}, {after.loss:.3f} on {len(judged_by)} validation pictures: "
        + ("fine-tuned it is" if is_better else "it stays as it was")
    )
    return ending.to(memory_format=torch.contiguous_format) if is_better else teacher.ending  # type: ignore[call-overload]


def _views(teacher: Tunable, bank: Bank, tuning: Tuning, progress: Progress) -> _Seen:
    """Views of every labelled picture, in turns, and the pictures as they are."""
    known = (bank.labels >= 0).nonzero()[:, 0]
    if len(known) > _MOST_VIEWS // 2:
        generator = torch.Generator().manual_seed(tuning.seed)
        known = known[torch.randperm(len(known), generator=generator)[: _MOST_VIEWS // 2].to(known.device)]
    views = max(1, min(tuning.views, _MOST_VIEWS // len(known) - 1))
    maker = ViewMaker(bank, SIDE, tuning.seed, Variation(mixed=0.0))
    plain = _plain(teacher, _of(bank, known))
    entering, labels = [plain.entering], [plain.labels]
    for number in range(views):
        for rows in torch.split(known, _AT_ONCE):
            entering.append(teacher.enter(maker.take(rows).pixels).half())
            labels.append(bank.labels[rows])
        progress((number + 1) * len(known), views * len(known))
    return _Seen(torch.cat(entering), torch.cat(labels))


def _of(bank: Bank, rows: Tensor) -> Bank:
    return Bank(bank.pixels[rows], bank.labels[rows], bank.aspects[rows], rows[:0], bank.names)


def _plain(teacher: Tunable, bank: Bank) -> _Seen:
    """The pictures of a bank as they are, on white where they are transparent."""
    entering = []
    for part in torch.split(bank.pixels, _AT_ONCE):
        alpha = part[:, 3:].float() / 255
        pixels = (part[:, :3].float() * alpha + 255 * (1 - alpha)).round().to(torch.uint8)
        entering.append(teacher.enter(pixels).half())
    return _Seen(torch.cat(entering), bank.labels)


def _judged(ending: nn.Module, seen: _Seen, judges: _Seen, num_classes: int) -> _Judged:
    targets = functional.one_hot(seen.labels, num_classes).float()
    head = fit(seen.features(ending), targets)
    logits = head.logits(judges.features(ending)).double().cpu().numpy()
    labels = judges.labels.cpu().numpy().astype(np.int64)
    evaluation = evaluate_logits(logits, labels, fit_calibration(logits, labels, "validation").temperature)
    return _Judged(head, evaluation.top1, evaluation.loss)


def _trained(ending: nn.Module, head: Head, seen: _Seen, tuning: Tuning, progress: Progress) -> nn.Module:
    """The moving average of the weights of an ending that learns together with the head, which is left behind.

    Normalization keeps the statistics that it has: batches of one kind of picture would give others.
    """
    weights = [*ending.parameters(), head.weight.clone(), head.bias.clone()]
    head = Head(weights[-2], weights[-1], head.mean, head.deviation)
    average = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.AdamW(weights, lr=tuning.rate, weight_decay=1e-4)
    generator, mixing = torch.Generator().manual_seed(tuning.seed), np.random.default_rng(tuning.seed)
    steps = max(1, round(tuning.passes * len(seen.labels) / _AT_ONCE))
    for step in range(steps):
        rate = tuning.rate * min(1.0, (step + 1) / _WARMUP) * (1 + cos(pi * step / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = torch.randint(len(seen.labels), (_AT_ONCE,), generator=generator).to(seen.labels.device)
        entering, labels = _ready(seen.entering[rows]), seen.labels[rows]
        share = mixing.beta(_MIXED, _MIXED) if step % 2 else 1.0
        logits = head.logits(ending(entering * share + entering.flip(0) * (1 - share))[1])
        first, other = (
            functional.cross_entropy(logits, each, label_smoothing=tuning.smoothing)
            for each in (labels, labels.flip(0))
        )
        optimizer.zero_grad(set_to_none=True)
        (first * share + other * (1 - share)).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - min(_AVERAGE, (step + 1) / (step + 10)))
        progress(step + 1, steps)
    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=True):
            weight.copy_(mean)
    return ending.requires_grad_(requires_grad=False)


def write_ending(ending: nn.Module, folder: Path) -> None:
    """Keep it beside the lessons. Raises TrainingError where that cannot be."""
    try:
        write_atomically(folder / ENDING, lambda new: torch.save(ending.state_dict(), new))
    except OSError as error:
        raise TrainingError(f"{folder / ENDING} cannot be written: {write_failure(error, folder)}") from error


def read_ending(like: nn.Module, folder: Path) -> nn.Module:
    """What was kept there, as a network like that. Raises TrainingError where the file is of another one."""
    path, ending = folder / ENDING, deepcopy(like)
    try:
        ending.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{path} cannot be read as the teacher's last blocks: {str(error)[:300]}; without it, and the lessons "
            "beside it, mixer lessons begins anew."
        ) from error
    return ending
