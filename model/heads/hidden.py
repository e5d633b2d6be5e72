"""A head with one hidden layer, its weight decay and its rounds chosen by folds. Knows nothing of networks or pictures.

Shapes: n pictures, C numbers an embedding, D_H hidden, K classes. A round is one pass over the training pictures.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model.heads.folds import Fitted, Labels, Vectors, mean_loss, standard, stratified_folds
from model.training.loss import class_weights
from model.weights.config import GeluFlavour

DECAYS = (10.0, 1.0, 0.1)  # a share of the weights, in rates: decoupled from the gradient, as AdamW has it
_RATE = 1e-3
_BATCH_SIZE = 64
_MOST_ROUNDS, _PATIENCE = 150, 8  # patience: rounds without a lower loss of the folds
_ROUNDS_WITHOUT_FOLDS = 30

Logits = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """Of a head with a hidden layer, and the GELU behind it."""

    hidden_dim: int
    num_classes: int
    gelu: GeluFlavour = "erf"


@dataclass(frozen=True)
class HiddenHead:
    """Logits are gelu(embeddings @ hidden_weight.T + hidden_bias) @ weight.T + bias, all of them float32.

    hidden_weight: [D_H, C]; hidden_bias: [D_H]; weight: [K, D_H]; bias: [K].
    """

    hidden_weight: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    gelu: GeluFlavour = "erf"

    @property
    def hidden_dim(self) -> int:
        """D_H."""
        return len(self.hidden_bias)

    def logits(self, vectors: Vectors) -> Logits:
        """[n, K] of [n, C]."""
        layers = [torch.from_numpy(array).double() for array in self.tensors().values()]
        return _logits(torch.from_numpy(vectors).double(), layers, self.gelu).numpy()

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """All four by the network's names."""
        return {
            "head_hidden.weight": self.hidden_weight,
            "head_hidden.bias": self.hidden_bias,
            "head.weight": self.weight,
            "head.bias": self.bias,
        }


@dataclass(frozen=True)
class _Choice:
    """A weight decay after so many rounds, and how the folds did then; held_out: [n, K]."""

    loss: float
    decay: float
    rounds: int
    held_out: Logits | None


def fit(
    vectors: Vectors,
    labels: Labels,
    sizes: Sizes,
    *,
    decays: Sequence[float] = DECAYS,
    balance: float = 0.0,
    seed: int = 0,
) -> Fitted[HiddenHead]:
    """The head of the weight decay and the number of rounds whose folds have the least loss. vectors: [n, C]."""
    weights = class_weights(labels, sizes.num_classes, balance)
    folds = stratified_folds(labels, seed)
    with _one_thread():
        if folds is None:
            chosen = _Choice(0.0, decays[len(decays) // 2], _ROUNDS_WITHOUT_FOLDS, None)
        else:
            each = [_stopped_early(vectors, labels, weights, sizes, folds, decay, seed) for decay in decays]
            chosen = min(each, key=lambda choice: choice.loss)
        learner = _Learner(vectors, labels, weights, sizes, chosen.decay, seed)
        for _ in range(chosen.rounds):
            learner.learn()
    return Fitted(learner.head(), chosen.decay, chosen.held_out)


@contextmanager
def _one_thread() -> Iterator[None]:
    """These products are too small to share: on a busy machine two threads take twelve times the processor time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stopped_early(
    vectors: Vectors,
    labels: Labels,
    weights: NDArray[np.float32],
    sizes: Sizes,
    folds: NDArray[np.intp],
    decay: float,
    seed: int,
) -> _Choice:
    """The best round of one weight decay: all folds learn side by side, until pictures held out gain nothing more."""
    places = [folds != fold for fold in range(int(folds.max()) + 1)]
    learners = [_Learner(vectors[inside], labels[inside], weights, sizes, decay, seed) for inside in places]
    best = _Choice(np.inf, decay, 0, None)
    for rounds in range(1, _MOST_ROUNDS + 1):
        held_out = np.zeros((len(labels), sizes.num_classes))
        for inside, learner in zip(places, learners, strict=True):
            learner.learn()
            held_out[~inside] = learner.logits(vectors[~inside])
        loss = mean_loss(held_out, labels, weights)
        if loss < best.loss:
            best = _Choice(loss, decay, rounds, held_out)
        elif rounds - best.rounds >= _PATIENCE:
            break
    return best


class _Learner:
    """A head that learns from rows [n, C], standardized within, one round at a time. The seed decides all of it."""

    def __init__(
        self, vectors: Vectors, labels: Labels, weights: NDArray[np.float32], sizes: Sizes, decay: float, seed: int
    ) -> None:
        self._sizes = sizes
        self._generator = torch.Generator().manual_seed(seed)
        self._scaled, self._mean, self._deviation = standard(vectors)
        self._targets = torch.from_numpy(labels)
        self._per_row = torch.from_numpy(weights)[self._targets]
        dim = vectors.shape[1]
        kernel = torch.randn(sizes.hidden_dim, dim, generator=self._generator) * dim**-0.5
        self._layers = [
            nn.Parameter(kernel),
            nn.Parameter(torch.zeros(sizes.hidden_dim)),
            nn.Parameter(torch.zeros(sizes.num_classes, sizes.hidden_dim)),
            nn.Parameter(torch.zeros(sizes.num_classes)),
        ]
        groups = [
            {"params": self._layers[::2], "weight_decay": decay},
            {"params": self._layers[1::2], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=_RATE, fused=True)

    def learn(self) -> None:
        """One round, in an order of its own."""
        order = torch.randperm(len(self._targets), generator=self._generator)
        for rows in torch.split(order, _BATCH_SIZE):
            logits = _logits(self._scaled[rows], self._layers, self._sizes.gelu)
            losses = functional.cross_entropy(logits, self._targets[rows], reduction="none")
            self._optimizer.zero_grad()
            (losses * self._per_row[rows]).mean().backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()

    def logits(self, vectors: Vectors) -> Logits:
        """[n, K] of [n, C]."""
        scaled = (torch.from_numpy(vectors) - self._mean) / self._deviation
        with torch.inference_mode():
            return _logits(scaled, self._layers, self._sizes.gelu).double().numpy()

    def head(self) -> HiddenHead:
        """The head as it is now, for embeddings of their own scale."""
        kernel, hidden_bias, weight, bias = (layer.detach() for layer in self._layers)
        folded = kernel / self._deviation
        shifted = hidden_bias - folded @ self._mean
        return HiddenHead(folded.numpy(), shifted.numpy(), weight.numpy(), bias.numpy(), self._sizes.gelu)


def _logits(rows: Tensor, layers: Sequence[Tensor], gelu: GeluFlavour) -> Tensor:
    """[n, K] of [n, C]; layers: kernel and bias of the hidden layer, and of the one behind it."""
    kernel, hidden_bias, weight, bias = layers
    hidden = functional.gelu(functional.linear(rows, kernel, hidden_bias), approximate=_APPROXIMATE[gelu])
    return functional.linear(hidden, weight, bias)


_APPROXIMATE = {"tanh": "tanh", "erf": "none"}
