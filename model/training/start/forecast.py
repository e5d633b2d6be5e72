"""How long a run will take, by a few steps of a network of the same sizes. Knows nothing of pictures or files."""

import time
from collections.abc import Callable

import torch

from model.network.mixer import MlpMixer
from model.recipe import Recipe
from model.training.precision import precision_for
from model.weights.config import MixerConfig

_STEPS, _MOST_PICTURES = 2, 16
_EVALUATION = 1 / 3  # of a step's work: one pass of three


def expected_s(
    config: MixerConfig,
    recipe: Recipe,
    num_train: int,
    num_val: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of all epochs with their evaluations, were every step like those that are measured here."""
    model = MlpMixer(config).to(device)
    count = min(_MOST_PICTURES, recipe.batch_size)
    shape = (count, config.image_size, config.image_size, config.channels)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    half = precision_for(recipe.autocast, device) == "bf16"
    _step(model, pixels, half=half)  # allocates
    began = clock()
    for _ in range(_STEPS):
        _step(model, pixels, half=half)
    per_picture = (clock() - began) / (_STEPS * count)
    return recipe.epochs * per_picture * (num_train * (1 + bool(recipe.sam_rho)) + num_val * _EVALUATION)


def _step(model: MlpMixer, pixels: torch.Tensor, *, half: bool) -> None:
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=half):
        loss = model(pixels).float().logsumexp(1).mean()
    loss.backward()
    if pixels.device.type == "cuda":
        torch.cuda.synchronize(pixels.device)
