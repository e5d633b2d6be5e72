"""The options of `mixer train`, which are those of `python -m model.training.train` too. Knows nothing of torch."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg, PydanticBaseSettingsSource, SettingsConfigDict

from model.recipe import RECIPES, Recipe
from model.spec import Background, FitMode
from model.training.sized import fitted


class TrainOptions(Recipe, BaseSettings):
    """Train a Mixer on DATA and write a checkpoint folder. A killed run in that folder is resumed.

    The defaults shown are those of the recipe `small`; --recipe takes another's, and a flag overrides either.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", cli_kebab_case=True)

    data: CliPositionalArg[Path] = Field(
        description="Folder of class folders (LABEL/*.jpg; train/, val/) or IDX files."
    )
    out: Path = Field(description="Checkpoint folder to write.")
    recipe: Literal["small", "pretrain", "finetune"] | None = Field(
        default=None,
        description="small: small data from scratch. pretrain: the paper's, for ImageNet. finetune: from a checkpoint. "
        "Default: finetune with --init, otherwise small.",
    )
    init: Path | None = Field(
        default=None,
        description="Checkpoint to start from, ours or imported. Its sizes hold; image-size may be a multiple.",
    )
    teacher: Path | None = Field(
        default=None, description="Classifier to learn from: a checkpoint folder, or an ONNX file that takes pixels."
    )
    labels: Path | None = Field(default=None, description="File with one label a line: names for IDX classes.")
    name: str | None = Field(default=None, description="Name of the classifier. Default: the folder's.")
    license: str = Field(default="unknown", description="Licence of the weights.")
    image_size: int = Field(default=64, ge=1, description="Pictures become this many pixels square.")
    channels: int = Field(default=3, ge=1, description="3 for colour, 1 for grey.")
    fit: FitMode = Field(default="pad", description="How a picture becomes a square.")
    background: Background = Field(
        default="any", description="dark: a picture with a light border is inverted, here and when it is served."
    )
    patch_size: int = Field(default=8, ge=1, description="Pixels of a patch's side; divides image-size.")
    hidden_dim: int = Field(default=128, ge=1, description="Width of a token.")
    num_blocks: int = Field(default=8, ge=1, description="Mixer blocks.")
    tokens_mlp_dim: int = Field(default=64, ge=1, description="Width of the token-mixing MLP.")
    channels_mlp_dim: int = Field(default=512, ge=1, description="Width of the channel-mixing MLP.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags only: a training run should not depend on the environment."""
        return (init_settings,)

    def chosen_recipe(self) -> Recipe:
        """The named recipe with every flag that was given over it."""
        named = RECIPES[self.recipe or ("small" if self.init is None else "finetune")]
        given = self.model_dump(include=self.model_fields_set & set(Recipe.model_fields))
        return named.model_copy(update=given)

    def recipe_for(self, num_pictures: int) -> Recipe:
        """The same, fitted to so many training pictures where no flag says otherwise; `pretrain` stays the paper's."""
        chosen = self.chosen_recipe()
        return chosen if self.recipe == "pretrain" else fitted(chosen, self.model_fields_set, num_pictures)
