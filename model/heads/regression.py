"""Logistic regression on embeddings, its weight decay chosen by folds. Knows nothing of networks or pictures.

Shapes: n pictures, C numbers an embedding, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.heads.folds import Fitted, Labels, Vectors, mean_loss, standard, stratified_folds
from model.training.loss import class_weights

DECAYS = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4)
_MOST_ITERATIONS = 60


@dataclass(frozen=True)
class LinearHead:
    """Logits are embeddings @ weight.T + bias. weight: float32 [K, C]; bias: float32 [K]."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @property
    def hidden_dim(self) -> int:
        """Width of the hidden layer: it has none."""
        return 0

    def logits(self, vectors: Vectors) -> NDArray[np.float64]:
        """[n, K] of [n, C]."""
        return vectors.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Both by the network's names."""
        return {"head.weight": self.weight, "head.bias": self.bias}


def fit(
    vectors: Vectors,
    labels: Labels,
    num_classes: int,
    *,
    decays: Sequence[float] = DECAYS,
    balance: float = 0.0,
    seed: int = 0,
) -> Fitted[LinearHead]:
    """The head of the weight decay whose folds have the least loss. vectors: [n, C]."""
    weights = class_weights(labels, num_classes, balance)
    folds = stratified_folds(labels, seed)
    if folds is None:
        middle = decays[len(decays) // 2]
        return Fitted(_path(vectors, labels, weights, (middle,))[0], middle, None)
    held_out = np.zeros((len(decays), len(labels), num_classes))
    for fold in range(int(folds.max()) + 1):
        inside, outside = folds != fold, folds == fold
        for row, head in enumerate(_path(vectors[inside], labels[inside], weights, decays)):
            held_out[row, outside] = head.logits(vectors[outside])
    losses = [mean_loss(logits, labels, weights) for logits in held_out]
    best = int(np.argmin(losses))
    head = _path(vectors, labels, weights, decays[: best + 1])[-1]
    return Fitted(head, decays[best], held_out[best])


def _path(vectors: Vectors, labels: Labels, weights: NDArray[np.float32], decays: Sequence[float]) -> list[LinearHead]:
    """A head for each weight decay, each begun where the one before ended. Features are standardized within."""
    scaled, mean, deviation = standard(vectors)
    targets = torch.from_numpy(labels)
    per_row = torch.from_numpy(weights)[targets]
    weight = torch.zeros(len(weights), scaled.shape[1], requires_grad=True)
    bias = torch.zeros(len(weights), requires_grad=True)
    heads = []
    for decay in decays:
        _minimize(scaled, targets, per_row, weight, bias, decay)
        folded = weight.detach() / deviation
        heads.append(LinearHead(folded.numpy(), (bias.detach() - folded @ mean).numpy()))
    return heads


def _minimize(scaled: Tensor, targets: Tensor, per_row: Tensor, weight: Tensor, bias: Tensor, decay: float) -> None:
    """Move weight and bias to the least loss (L-BFGS; the loss is convex)."""
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_MOST_ITERATIONS, tolerance_grad=1e-4, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        losses = functional.cross_entropy(functional.linear(scaled, weight, bias), targets, reduction="none")
        loss = (losses * per_row).mean() + decay / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach().item()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
