"""A run as its options, its pictures and its start make it. Knows nothing of steps."""

from dataclasses import dataclass

import numpy as np

from model.data.dataset import Dataset, PreprocessConfig
from model.network import checkpoint
from model.network.mixer import MlpMixer
from model.recipe import Recipe, described
from model.spec import ModelSpec
from model.training.options import TrainOptions
from model.training.processes import device_for, is_distributed
from model.training.run_config import TrainCallbacks
from model.training.start.choices import told
from model.training.start.forecast import expected_s
from model.training.start.network import adapted, new_config, spec_of
from model.weights.config import MixerConfig

_FEW_STEPS = 200


@dataclass(frozen=True)
class Plan:
    """recipe: fitted to the pictures. initial: the weights to start from; None: random ones."""

    recipe: Recipe
    config: MixerConfig
    initial: MlpMixer | None
    spec: ModelSpec


def plan(
    options: TrainOptions,
    base: checkpoint.Checkpoint | None,
    seen: PreprocessConfig,
    dataset: Dataset,
    callbacks: TrainCallbacks,
) -> Plan:
    """Choose what no flag says, and tell it. Raises TrainingError for sizes that do not fit each other."""
    num_train, num_val = len(dataset.train), len(dataset.val)
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.labels)).tolist()
    recipe = options.recipe_for(num_train, counts)
    for line in described(recipe, options.chosen_recipe(), num_train):
        callbacks.on_note(line)
    callbacks.on_recipe(recipe)
    initial = None if base is None else adapted(base, seen.image_size, dataset.labels)
    config = initial.config if initial is not None else new_config(options, len(dataset.labels))
    device = device_for(options.device)
    expected = None if is_distributed() else expected_s(config, recipe, num_train, num_val, device)
    callbacks.on_choices(told(options, recipe, config, expected))
    steps = recipe.epochs * -(-num_train // recipe.batch_size)
    if steps < _FEW_STEPS:
        callbacks.on_note(
            f"warning: {steps} steps are few to learn in; a smaller --batch-size or more --epochs give more."
        )
    return Plan(recipe, config, initial, spec_of(options, config, seen, dataset.labels, base))
