"""The learning rate of every step. Knows nothing of optimizers."""

import math

from model.recipe import Recipe


def learning_rate(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Linear warm-up to the recipe's rate, then down to zero after the last step: a straight line or half a cosine."""
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * min(1.0, (step + 1) / warmup)  # a warm-up may end within a step
    left = recipe.epochs * steps_per_epoch - warmup
    progress = min(1.0, (step - warmup) / max(1.0, left))
    fraction = 1 - progress if recipe.decay == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return recipe.learning_rate * fraction
