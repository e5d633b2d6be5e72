"""The options of `mixer lessons` and `mixer distil`. Knows nothing of torch."""

from pathlib import Path

from pydantic import BaseModel, Field

from model.flags import Positional
from model.spec import FitMode


class LessonOptions(BaseModel):
    """Write varied views of DATA's training pictures, and what EfficientNet-lite2 sees in each, into LESSONS.

    A killed run goes on where it was; one with a greater count adds to what is there.
    """

    data: Positional[Path] = Field(description="Folder of class folders (LABEL/*.jpg; train/, val/).")
    lessons: Positional[Path] = Field(description="Folder to write the lessons to: 66 kB each at 128 pixels.")
    others: Path | None = Field(
        default=None, description="Folder of any other pictures, without labels: more to see, and what is not in DATA."
    )
    count: int = Field(default=120_000, ge=1, description="Lessons in all; rounded up to a multiple of 2,048.")
    labels: Path | None = Field(default=None, description="File with one label a line: the order of the classes.")
    image_size: int = Field(default=128, ge=1, description="Pixels of a lesson's picture: the pupil's, or more.")
    labelled: float = Field(default=0.62, gt=0, le=1, description="Share of the lessons on pictures with a label.")
    fine_tune: int = Field(
        default=0,
        ge=0,
        description="Train the teacher's last blocks on DATA's labels first, on so many views of each picture, and "
        "keep them where a head on their features has the lower loss on DATA's val/. Default: none.",
    )
    seed: int = Field(default=0, ge=0, description="Of everything random.")


class DistilOptions(BaseModel):
    """Train a Mixer on LESSONS, judge it on DATA's validation pictures, and write a checkpoint folder.

    A killed run in that folder goes on where it was. The learning rate stays level until the last --cool-steps, so a
    run that has ended may be given more --steps.
    """

    lessons: Positional[Path] = Field(description="Folder that mixer lessons has filled.")
    data: Positional[Path] = Field(description="Folder of class folders with val/, whose labels the lessons have.")
    out: Path = Field(description="Checkpoint folder to write.")
    init: Path | None = Field(
        default=None,
        description="Checkpoint folder whose network the pupil begins with, of the same sizes and labels; else random.",
    )
    init_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of --init's weights in those of the result; the others are what was learned. A mean of both "
        "may do better than either (arXiv 2109.01903).",
    )
    name: str | None = Field(default=None, description="Name of the classifier. Default: the folder's.")
    license: str = Field(default="unknown", description="License of the weights.")
    fit: FitMode = Field(default="stretch", description="How a picture becomes a square when it is judged and served.")
    pictures: Path | None = Field(
        default=None,
        description="Folder of pictures that the checkpoint may carry along, for its export's checks and canary.",
    )
    steps: int = Field(default=6_000, ge=1, description="Steps in all.")
    cool_steps: int = Field(default=1_500, ge=0, description="Last steps, in which the learning rate falls to zero.")
    warmup_steps: int = Field(default=100, ge=0, description="First steps, in which the learning rate rises.")
    batch_size: int = Field(default=256, ge=2, description="Lessons in a step.")
    learning_rate: float = Field(default=3.6e-3, gt=0, description="Of Muon; AdamW has --rate-of-others.")
    rate_of_others: float = Field(default=1e-3, gt=0, description="Learning rate of what is no block's kernel.")
    weight_decay: float = Field(default=0.05, ge=0, description="Of kernels.")
    ema_decay: float = Field(default=0.998, ge=0, lt=1, description="Of the averaged weights, which are the result.")
    local: bool = Field(default=True, description="Whether token mixing starts local.")
    compile: bool = Field(default=True, description="Whether torch compiles the step.")
    seed: int = Field(default=0, ge=0, description="Of everything random.")
    judge_every: int = Field(default=50, ge=1, description="Steps between two lines of the log.")
    save_every: int = Field(default=150, ge=1, description="Steps between two saved states.")
    image_size: int = Field(default=128, ge=1, description="Pictures become this many pixels square.")
    patch_size: int = Field(default=16, ge=1, description="Pixels of a patch's side; divides image-size.")
    hidden_dim: int = Field(default=256, ge=1, description="Width of a token.")
    num_blocks: int = Field(default=8, ge=1, description="Mixer blocks.")
    tokens_mlp_dim: int = Field(default=128, ge=1, description="Width of the token-mixing MLP.")
    channels_mlp_dim: int = Field(default=768, ge=1, description="Width of the channel-mixing MLP.")
    logits_weight: float = Field(default=0.5, ge=0, description="Weight of the divergence from the teacher's logits.")
    labels_weight: float = Field(default=0.1, ge=0, description="Weight of the cross-entropy with the labels.")
    maps_weight: float = Field(default=1.0, ge=0, description="Weight of each of the teacher's two maps.")
    features_weight: float = Field(default=1.0, ge=0, description="Weight of the teacher's features.")
    unlabelled_weight: float = Field(default=0.5, ge=0, description="Weight of even odds on pictures without label.")
