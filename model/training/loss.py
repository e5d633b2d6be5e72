"""The training loss. Knows nothing of networks."""

from torch import Tensor
from torch.nn import functional

from model.recipe import Recipe


def summed_loss(logits: Tensor, targets: Tensor, teacher_logits: Tensor | None, recipe: Recipe) -> Tensor:
    """The sum over pictures of the cross-entropy with the targets and, given a teacher, with its probabilities.

    logits, taught: float32 [N, K]; targets: probabilities [N, K]. The teacher's share is its Kullback-Leibler
    divergence at the recipe's temperature T, times T squared, so that the gradient's size does not depend on T.
    """
    plain = functional.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing, reduction="sum")
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
