"""The optimizers, SAM around any of them, and the moving average of the weights.

Knows nothing of schedules or pictures.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from model.network.mixer import MlpMixer
from model.recipe import Recipe
from model.training.muon import StackedMuon

Tensors = list[Tensor] | tuple[Tensor, ...]


def build_optimizers(model: MlpMixer, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """One optimizer for everything, or Muon for the blocks' kernels and AdamW for the rest.

    Weight decay is for kernels only; biases and layer norms have none. It is decoupled from the gradient in adamw and
    muon, and added to the gradient in adam and sgd, as each was published. Muon: arXiv 2502.16982, whose scaling lets
    both share one learning rate.
    """
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizers: list[torch.optim.Optimizer] = []
    if recipe.optimizer == "muon":
        inner = [parameter for parameter in model.blocks.parameters() if parameter.ndim > 1]
        optimizers.append(StackedMuon(inner, lr=recipe.learning_rate, weight_decay=recipe.weight_decay))
        kernels = [parameter for parameter in kernels if all(parameter is not other for other in inner)]
    groups = [{"params": kernels, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if recipe.optimizer == "sgd":
        optimizers.append(torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum))
    elif recipe.optimizer == "adam":
        optimizers.append(torch.optim.Adam(groups, lr=recipe.learning_rate))
    else:
        optimizers.append(torch.optim.AdamW(groups, lr=recipe.learning_rate))
    return optimizers


def moving_average(model: MlpMixer, decay: float) -> AveragedModel:
    """A copy of the network whose weights follow the model's: update_parameters(model) after every step.

    After step n they move by 1 - min(decay, n / (9 + n)) of the way: the first steps count for more, so that little of
    the random start remains. `n_averaged` is n, and counts the start as a step, which torch would else overwrite.
    """

    def move(averages: Tensors, parameters: Tensors, step: Tensor | int) -> None:
        torch._foreach_lerp_(averages, parameters, 1 - min(decay, int(step) / (9 + int(step))))

    average = AveragedModel(model, multi_avg_fn=move).eval()
    average.n_averaged.fill_(1)
    return average


@contextmanager
def sam_perturbation(parameters: Iterable[nn.Parameter], rho: float) -> Iterator[None]:
    """Inside, the parameters stand where the loss is worst within `rho` of where they were (SAM, arXiv 2010.01412).

    Moves along the gradients in `.grad` by a norm of `rho`, and restores the exact values at the end.
    """
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    gradients: list[Tensor] = [parameter.grad for parameter in moved if parameter.grad is not None]
    before = [parameter.detach().clone() for parameter in moved]
    scale = rho / (nn.utils.get_total_norm(gradients) + 1e-12)
    with torch.no_grad():
        for parameter, gradient in zip(moved, gradients, strict=True):
            parameter.add_(gradient * scale)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(moved, before, strict=True):
                parameter.copy_(value)
