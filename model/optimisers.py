"""What moves the weights: AdamW, or Muon beside it. Knows nothing of schedules or pictures."""

import torch

from model.mixer import MlpMixer
from model.recipe import Recipe


def build_optimisers(model: MlpMixer, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the blocks' kernels and AdamW for the rest.

    Weight decay is for kernels only; biases and layer norms go without. Muon: arXiv 2502.16982, whose scaling lets both
    share one learning rate.
    """
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimisers: list[torch.optim.Optimizer] = []
    if recipe.optimiser == "muon":
        inner = [parameter for parameter in model.blocks.parameters() if parameter.ndim > 1]
        optimisers.append(
            torch.optim.Muon(
                inner, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
        kernels = [parameter for parameter in kernels if all(parameter is not other for other in inner)]
    groups = [{"params": kernels, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimisers.append(torch.optim.AdamW(groups, lr=recipe.learning_rate))
    return optimisers
