"""The teacher's own classifier for the pictures' labels: a linear layer on its features. Knows nothing of views."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.distillation.lessons import Lessons
from model.network.checkpoint_folder import write_atomically

HEAD = "head.npz"
_MOST = 4.0  # deviations: rectified features have long tails
_RATE, _BATCH, _FEWEST_STEPS = 2e-3, 512, 100


@dataclass(frozen=True)
class Head:
    """weight: [K, F]; bias: [K]; mean, deviation: [F], of the features. float32."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    deviation: Tensor

    def standardized(self, features: Tensor) -> Tensor:
        """float32 [N, F] of features [N, F]: mean 0, deviation 1, at most four."""
        return ((features.float() - self.mean) / self.deviation).clamp(-_MOST, _MOST)

    def logits(self, features: Tensor) -> Tensor:
        """float32 [N, K] of features [N, F]."""
        return functional.linear(self.standardized(features), self.weight, self.bias)

    def write(self, folder: Path) -> None:
        """Write it beside the lessons."""
        content = {field.name: getattr(self, field.name).numpy() for field in fields(self)}

        def save(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, **content)

        write_atomically(folder / HEAD, save)

    @classmethod
    def read(cls, folder: Path) -> "Head":
        """The head beside the lessons."""
        with np.load(folder / HEAD) as stored:
            return cls(**{field.name: torch.from_numpy(stored[field.name]) for field in fields(cls)})


def label_shares(labels: Tensor, others: Tensor, shares: Tensor, num_classes: int) -> Tensor:
    """Probabilities float32 [N, K] of views that are mixed of two labels."""
    first, second = (functional.one_hot(kind.long().clamp(min=0), num_classes) for kind in (labels, others))
    return first * shares[:, None] + second * (1 - shares[:, None])


def is_labelled(lessons: Lessons) -> Tensor:
    """Bool [N]: whether all that a view shows has a label."""
    return (lessons.labels >= 0) & (lessons.other_labels >= 0)


def fit_head(lessons: Lessons, num_classes: int, *, decay: float = 3e-3, epochs: int = 5, seed: int = 0) -> Head:
    """As `fit`, to the features of the labelled lessons."""
    known = is_labelled(lessons)
    targets = label_shares(lessons.labels[known], lessons.other_labels[known], lessons.shares[known], num_classes)
    return fit(lessons.features[known].float(), targets, decay=decay, epochs=epochs, seed=seed)


def fit(features: Tensor, targets: Tensor, *, decay: float = 3e-3, epochs: int = 5, seed: int = 0) -> Head:
    """Logistic regression of shares [N, K] on features float32 [N, F], with `decay` times the squared weights."""
    mean, deviation = features.mean(0), features.std(0) + 1e-3
    weight = torch.zeros(targets.shape[1], features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros(targets.shape[1], device=features.device, requires_grad=True)
    scaled = ((features - mean) / deviation).clamp(-_MOST, _MOST)
    optimizer = torch.optim.AdamW([weight, bias], lr=_RATE, weight_decay=0)
    generator = torch.Generator().manual_seed(seed)
    steps = max(_FEWEST_STEPS, epochs * len(scaled) // _BATCH)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - step / steps)
        rows = torch.randint(len(scaled), (_BATCH,), generator=generator).to(features.device)
        loss = functional.cross_entropy(functional.linear(scaled[rows], weight, bias), targets[rows])
        optimizer.zero_grad()
        (loss + decay * weight.square().sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return Head(weight.detach(), bias.detach(), mean, deviation)
