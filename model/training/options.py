"""The options of `mixer train` and of `python -m model.training.train`. Knows nothing of torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from model.flags import Positional, Switch, Toggle
from model.recipe import RECIPES, UNFREEZE, Recipe, balanced, fitted
from model.spec import Background, FitMode, Frame

_CHECKPOINTS = Path("checkpoints")


def _default_out(given: dict[str, Any]) -> Path:
    """checkpoints/NAME, after DATA's folder; the network that --unfreeze trains has one beside that of its head."""
    name = Path(given["data"]).resolve().name if "data" in given else ""  # missing: pydantic tells so
    return _CHECKPOINTS / (f"{name}-unfrozen" if given.get("unfreeze") else name)


class TrainOptions(Recipe):
    """Train a Mixer on DATA and write a checkpoint folder and a bundle. A killed run in that folder is resumed.

    What no flag says is chosen by the pictures and the machine, and told. The defaults shown are those of the recipe
    `small`; --recipe takes another's, and a flag overrides either.
    """

    data: Positional[Path] = Field(description="Folder of class folders (LABEL/*.jpg; train/, val/) or IDX files.")
    freeze: Toggle[bool] = Field(
        default=False,
        description="Train a head alone, on what the network of --init says of each picture once: seconds to a few "
        "minutes, and best where pictures are few. Default: bundles/clothes is the network.",
    )
    unfreeze: Toggle[bool] = Field(
        default=False, description="Go on from the checkpoint of a --freeze with all weights, at a low rate."
    )
    add: Toggle[bool] = Field(
        default=False,
        description="With --freeze: DATA's classes are added to those of the checkpoint of an earlier --freeze, whose "
        "pictures are not read again.",
    )
    hidden: int = Field(
        default=0,
        ge=0,
        description="With --freeze: the head has a hidden layer of this width; 0 for a linear head. With --add and "
        "without this flag, the checkpoint's width stays.",
    )
    out: Path = Field(
        default_factory=_default_out,
        description="Checkpoint folder to write. Default: checkpoints/ and the name of DATA's folder.",
    )
    bundle: Path | None = Field(
        default=None, description="Bundle folder to write. Default: bundles/ and the checkpoint folder's name."
    )
    no_bundle: Toggle[bool] = Field(default=False, description="Write no bundle.")
    recipe: Literal["small", "pretrain", "finetune"] | None = Field(
        default=None,
        description="small: small data from scratch. pretrain: the paper's, for ImageNet. finetune: from a checkpoint. "
        "Default: finetune with --init, otherwise small.",
    )
    init: str | None = Field(
        default=None,
        description="Weights to start from: a checkpoint folder, or a public name as in mixer import (timm:..., "
        "google:...), which is downloaded. Their sizes hold; image-size may be a multiple.",
    )
    teacher: Path | None = Field(
        default=None, description="Classifier to learn from: a checkpoint folder, or an ONNX file that takes pixels."
    )
    lessons: Path | None = Field(
        default=None,
        description="Folder where --views keeps what the teacher says, for other runs too. Default: that of --out.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where to train. auto: a GPU if torch finds one. A run may move between them."
    )
    allow_slow_autocast: Toggle[bool] = Field(
        default=False,
        description="Train with --autocast bf16 on a processor without bf16, too, at down to a twentieth of the speed.",
    )
    stream: Switch[bool | None] = Field(
        default=None,
        description="Decode pictures while the network trains, in place of keeping their pixels. Default: where these "
        "would take more than half of the memory.",
    )
    labels: Path | None = Field(default=None, description="File with one label a line: names for IDX classes.")
    name: str | None = Field(default=None, description="Name of the classifier. Default: the folder's.")
    license: str = Field(default="unknown", description="License of the weights.")
    image_size: int = Field(default=64, ge=1, description="Pictures become this many pixels square.")
    channels: int = Field(default=3, ge=1, description="3 for color, 1 for grey.")
    fit: FitMode = Field(default="pad", description="How a picture becomes a square.")
    background: Background = Field(
        default="any",
        description="dark: a picture with a light border is inverted, here and when it is served. black: then its "
        "border's level is taken away, too.",
    )
    frame: Frame = Field(
        default="picture", description="thing: the square is laid around what stands before a black background."
    )
    patch_size: int = Field(default=8, ge=1, description="Pixels of a patch's side; divides image-size.")
    hidden_dim: int = Field(default=128, ge=1, description="Width of a token.")
    num_blocks: int = Field(default=8, ge=1, description="Mixer blocks.")
    tokens_mlp_dim: int = Field(default=64, ge=1, description="Width of the token-mixing MLP.")
    channels_mlp_dim: int = Field(default=512, ge=1, description="Width of the channel-mixing MLP.")

    @model_validator(mode="after")
    def _together(self) -> Self:
        self._expect_freezing_together()
        if self.views and self.teacher is None:
            raise ValueError(f"--views is {self.views}, without a --teacher; expected both")
        if self.teacher_undistorted and (self.teacher is None or not (self.distort or self.turn)):
            raise ValueError(
                "--teacher-undistorted is true, without a --teacher, or --distort or --turn; expected both"
            )
        if self.lessons is not None and not self.views:
            raise ValueError(f"--lessons is {self.lessons}, without --views; expected both")
        return self

    def _expect_freezing_together(self) -> None:
        if self.freeze and self.unfreeze:
            raise ValueError("--freeze and --unfreeze are both given; expected one after the other")
        if self.unfreeze and self.init is None:
            raise ValueError("--unfreeze is given without --init; expected the checkpoint of a --freeze")
        if self.add and not self.freeze:
            raise ValueError("--add is given without --freeze; expected both")
        if self.hidden and not self.freeze:
            raise ValueError(f"--hidden is {self.hidden}, without --freeze; expected both")
        if self.freeze and self.teacher is not None:
            raise ValueError(f"--teacher is {self.teacher}, with --freeze; expected one of the two")

    def chosen_recipe(self) -> Recipe:
        """The named recipe with every flag that was given over it."""
        named = UNFREEZE if self.unfreeze else RECIPES["small" if self.init is None else "finetune"]
        named = named if self.recipe is None else RECIPES[self.recipe]
        given = self.model_dump(include=self.model_fields_set & set(Recipe.model_fields))
        return named.model_copy(update=given)

    def recipe_for(self, num_pictures: int, counts: Sequence[int] = ()) -> Recipe:
        """The same, fitted to so many training pictures where no flag says otherwise; `pretrain` stays the paper's.

        counts: those of each class; without them, none counts for more than another.
        """
        chosen = self.chosen_recipe()
        if self.recipe == "pretrain":
            return chosen
        chosen = balanced(chosen, self.model_fields_set, counts) if counts else chosen
        return fitted(chosen, self.model_fields_set, num_pictures)
