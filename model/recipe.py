"""How to train, as plain settings. Knows nothing of torch, so that the command line can show it without loading any.

Rates and probabilities are fractions; epochs and steps are counts.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Augmentation(BaseModel):
    """How much pictures are varied. Probabilities are per picture; 0 turns a step off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: float = Field(default=0.5, ge=0, le=1, description="Probability of mirroring left to right.")
    shift_pixels: int = Field(default=0, ge=0, description="Largest random shift each way; the edge is repeated.")
    invert: float = Field(default=0.0, ge=0, le=1, description="Probability of exchanging light and dark.")
    erase: float = Field(
        default=0.0, ge=0, le=1, description="Probability of filling a random rectangle with noise (arXiv 1708.04896)."
    )


class Recipe(Augmentation):
    """Everything that decides the outcome of a run, besides the pictures and the network's sizes."""

    epochs: int = Field(default=30, ge=1, description="How often every picture is seen.")
    batch_size: int = Field(default=256, ge=1, description="Pictures in a step.")
    optimiser: Literal["adamw", "muon"] = Field(
        default="adamw", description="muon learns more in an epoch and takes longer over it; see docs/decisions."
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Highest rate, reached after the warm-up.")
    weight_decay: float = Field(default=0.1, ge=0, description="Decoupled, on kernels only.")
    warmup_epochs: float = Field(default=2.0, ge=0, description="Epochs in which the rate rises; then half a cosine.")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="Share of the label given to all classes.")
    clip_norm: float = Field(default=1.0, gt=0, description="Largest global norm of the gradients.")
    ema_decay: float = Field(default=0.998, ge=0, lt=1, description="Decay of the moving average that is kept.")
    autocast: Literal["off", "bf16"] = Field(
        default="off", description="bf16 halves the time where the processor has it."
    )
    val_fraction: float = Field(default=0.1, gt=0, lt=1, description="Share held out where DATA has no val/.")
    seed: int = Field(default=0, ge=0, description="Same seed, same run.")
