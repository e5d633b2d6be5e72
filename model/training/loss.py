"""The training loss, and what a class counts in it. Knows nothing of networks."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.recipe import Recipe


def class_weights(labels: NDArray[np.int64], num_classes: int, balance: float) -> NDArray[np.float32]:
    """[K]: the mean number of pictures of a class over its own, to the power of `balance`; 1 on average of pictures."""
    counts = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    weights = (counts.mean() / counts) ** balance
    scaled: NDArray[np.float32] = (weights / (weights * counts).sum() * counts.sum()).astype(np.float32)
    return scaled


def summed_loss(
    logits: Tensor,
    targets: Tensor,
    teacher_logits: Tensor | None,
    recipe: Recipe,
    weights: Tensor | None = None,
) -> Tensor:
    """The sum over pictures of the cross-entropy with the targets and, given a teacher, with its probabilities.

    logits, taught: float32 [N, K]; targets: probabilities [N, K]. The teacher's share is its Kullback-Leibler
    divergence at the recipe's temperature T, times T squared, so that the gradient's size does not depend on T.
    weights: [K], what each class counts in the cross-entropy with the targets.
    """
    plain = functional.cross_entropy(logits, targets, weights, label_smoothing=recipe.label_smoothing, reduction="sum")
    if teacher_logits is None:
        return plain
    temperature = recipe.distil_temperature
    divergence = functional.kl_div(
        functional.log_softmax(logits / temperature, dim=1),
        functional.log_softmax(teacher_logits / temperature, dim=1),
        reduction="sum",
        log_target=True,
    )
    return (1 - recipe.distil_weight) * plain + recipe.distil_weight * temperature**2 * divergence
