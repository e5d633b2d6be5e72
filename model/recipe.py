"""How to train, as plain settings. Knows nothing of torch, so that the command line can show it without loading any.

Rates and probabilities are fractions; epochs and steps are counts.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.old_names import renamed

_STEPS_PER_EPOCH, _SMALLEST_BATCH = 16, 8  # a batch of 128 from 120 pictures would be one step an epoch: too few
_STEPS, _MOST_EPOCHS = 600, 200
_LEAST_PATIENCE = 10  # epochs
_UNEVEN, _BALANCE = 2, 0.5  # the largest class over the smallest; see docs/training.md for what it does


class Augmentation(BaseModel):
    """Augmentation. Probabilities are per picture; 0 turns a step off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: float = Field(default=0.5, ge=0, le=1, description="Probability of mirroring left to right.")
    pad_crop: float = Field(
        default=0.07, ge=0, lt=1, description="Largest random shift each way, as a share of the side; edges repeat."
    )
    crop_scale: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Smallest area of a random resized crop, as a share of the picture's, such as 0.08; 0: no crop.",
    )
    distort: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the pictures that are turned, scaled, shifted, set before another background, in other "
        "light, noisy.",
    )
    turn: float = Field(
        default=0.0, ge=0, le=1, description="Share of the pictures that are turned by at most 26 degrees, and no more."
    )
    randaugment_layers: int = Field(default=0, ge=0, description="Random operations a picture (arXiv 1909.13719).")
    randaugment_magnitude: float = Field(default=15, ge=0, le=30, description="How strong they are, out of 30.")
    invert: float = Field(default=0.0, ge=0, le=1, description="Probability of exchanging light and dark.")
    erase: float = Field(
        default=0.1, ge=0, le=1, description="Probability of filling a random rectangle with noise (arXiv 1708.04896)."
    )
    mixup: float = Field(
        default=0.0, ge=0, description="Alpha of the Beta distribution that two pictures are blended by; 0: not at all."
    )
    cutmix: float = Field(
        default=0.0, ge=0, description="Alpha of the share of a picture that another one covers; 0: not at all."
    )


class Recipe(Augmentation):
    """All settings that decide the outcome of a training run, except the pictures and the network's sizes."""

    epochs: int = Field(default=60, ge=1, description="How often every picture is seen.")
    batch_size: int = Field(default=128, ge=1, description="Pictures in a step, over all processes.")
    accumulate: int = Field(default=1, ge=1, description="Parts that a step's pictures are worked through in.")
    optimizer: Literal["adamw", "adam", "sgd", "muon"] = Field(
        default="adamw", description="muon learns more in an epoch and takes longer over it; see docs/decisions."
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Of sgd.")
    sam_rho: float = Field(
        default=0.0, ge=0, description="Radius of sharpness-aware minimisation (arXiv 2010.01412); doubles the time."
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Highest rate, reached after the warm-up.")
    weight_decay: float = Field(default=0.1, ge=0, description="On kernels only; decoupled in adamw and muon.")
    warmup_epochs: float = Field(default=2.0, ge=0, description="Epochs in which the rate rises.")
    decay: Literal["cosine", "linear"] = Field(default="cosine", description="How the rate falls to zero after that.")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="Share of the label given to all classes.")
    stochastic_depth: float = Field(
        default=0.0, ge=0, lt=1, description="Drop rate of the last block's branches, rising linearly to it."
    )
    clip_norm: float = Field(default=1.0, gt=0, description="Largest global norm of the gradients.")
    ema_decay: float = Field(
        default=0.998,
        ge=0,
        lt=1,
        description="Decay of the moving average of the weights, which is what is kept; 0: none.",
    )
    distil_weight: float = Field(
        default=1.0, ge=0, le=1, description="Share of a teacher in the loss, given a teacher."
    )
    distil_temperature: float = Field(
        default=1.0, gt=0, description="Temperature at which a teacher's probabilities are matched (arXiv 1503.02531)."
    )
    teacher_undistorted: bool = Field(
        default=False, description="Whether a teacher sees pictures without what --distort and --turn do to them."
    )
    views: int = Field(
        default=0,
        ge=0,
        description="Epochs after which order, variation and mixing repeat, given a teacher, which is not run again; "
        "0: they never do.",
    )
    autocast: Literal["auto", "off", "bf16", "fp16"] = Field(
        default="auto",
        description="Half precision where it is safe; off: float32. bf16 halves the time where the device has it; "
        "auto: bf16 there, off elsewhere. A run may go on in another.",
    )
    compile: bool = Field(default=False, description="Compile the network (torch.compile) before the first step.")
    val_fraction: float = Field(default=0.1, gt=0, lt=1, description="Share held out where DATA has no val/.")
    seed: int = Field(default=0, ge=0, description="Same seed, same run.")
    balance: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="How much more a rare class counts: the mean number of pictures of a class over its own, to this "
        "power. 0: as all others. Default: 0.5 where the largest class has more than twice the pictures of the "
        "smallest, else 0.",
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="Epochs without a better validation loss or accuracy after which a run ends; 0: never. Default: a "
        "quarter of the epochs, at least 10, where these are chosen by the pictures.",
    )

    @model_validator(mode="before")
    @classmethod
    def _by_todays_names(cls, given: Any) -> Any:
        return renamed(given) if isinstance(given, Mapping) else given


RECIPES = {
    # Small data, from scratch: the defaults of the classes above.
    "small": Recipe(),
    # The paper's, on ImageNet-1k (Table 4 and big_vision's mlp_mixer_i1k): 32 epochs are its 10,000 steps of warm-up.
    # Its Adam has its weight decay decoupled, which torch calls AdamW.
    "pretrain": Recipe(
        epochs=300,
        batch_size=4096,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.1,
        warmup_epochs=32,
        decay="linear",
        label_smoothing=0.0,
        stochastic_depth=0.1,
        ema_decay=0.0,
        flip=0.5,
        pad_crop=0.0,
        crop_scale=0.05,  # as the Inception crop of the paper's code has it
        randaugment_layers=2,
        randaugment_magnitude=15,
        erase=0.0,
        mixup=0.5,
    ),
    # From a checkpoint: section 3 of the paper, with a batch that a folder of a few hundred pictures can use.
    "finetune": Recipe(
        epochs=20,
        batch_size=64,
        optimizer="sgd",
        learning_rate=0.01,
        weight_decay=0.0,
        warmup_epochs=1,
        label_smoothing=0.0,
        ema_decay=0.0,
        pad_crop=0.05,
        erase=0.0,
    ),
}


# From the checkpoint of a head alone: the weights are good already, and shall not be shaken.
UNFREEZE = RECIPES["finetune"].model_copy(update={"learning_rate": 3e-3})


def fitted(recipe: Recipe, given: Collection[str], num_pictures: int) -> Recipe:
    """Smaller batches, so that an epoch has 16 steps, and more epochs, so that a run has 600; `given` settings stay.

    Epochs that are chosen here also end where nothing is gained any more: then patience is a quarter of them.

    The batch does not depend on the epochs, so that a run can be extended.
    """
    changes: dict[str, int] = {}
    if "batch_size" not in given:
        changes["batch_size"] = min(recipe.batch_size, max(_SMALLEST_BATCH, _power_of_two(num_pictures)))
    steps = -(-num_pictures // changes.get("batch_size", recipe.batch_size))
    if "epochs" not in given:
        changes["epochs"] = max(recipe.epochs, min(_MOST_EPOCHS, -(-_STEPS // steps)))
        if "patience" not in given:
            changes["patience"] = max(_LEAST_PATIENCE, changes["epochs"] // 4)
    return recipe.model_copy(update=changes)


def balanced(recipe: Recipe, given: Collection[str], counts: Sequence[int]) -> Recipe:
    """Rare classes count for more where the classes' training pictures are uneven, unless `balance` is given."""
    if "balance" in given or max(counts) <= _UNEVEN * max(1, min(counts)):
        return recipe
    return recipe.model_copy(update={"balance": _BALANCE})


def described(recipe: Recipe, wanted: Recipe, num_pictures: int) -> list[str]:
    """A line on the changes that `fitted` made to a recipe, if any."""
    if (recipe.batch_size, recipe.epochs) == (wanted.batch_size, wanted.epochs):
        return []
    steps = -(-num_pictures // recipe.batch_size)
    batches = f" in place of {wanted.batch_size}" if recipe.batch_size != wanted.batch_size else ""
    epochs = f" in place of {wanted.epochs}" if recipe.epochs != wanted.epochs else ""
    return [
        f"{num_pictures} training pictures: batches of {recipe.batch_size}{batches}, {recipe.epochs} epochs{epochs}, "
        f"{recipe.epochs * steps} steps in all; --batch-size and --epochs set others"
    ]


def _power_of_two(num_pictures: int) -> int:
    """The largest batch size with which an epoch has so many steps; 0 where there is none."""
    most = num_pictures // _STEPS_PER_EPOCH
    return 1 << (most.bit_length() - 1) if most else 0
