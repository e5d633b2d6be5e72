"""Public weights on some host: where their file is, and what the file itself does not say. Knows no names."""

from dataclasses import dataclass
from typing import Literal

from model.spec import Fit, Interpolation, ModelSpec

PAPER_FIT = Fit(mode="crop", crop_percentage=0.875)  # shorter side to 256, central 224


@dataclass(frozen=True)
class Remote:
    """A checkpoint's address, the name of its file in the cache, and how its pictures are prepared.

    repository, endpoint, revision: of a file on a Hugging Face hub; None for a plain address.
    has_config: the repository's config.json says the rest, and has not been read.
    pixel_mean, pixel_std: in 0..255, one for all channels or one for each.
    gelu: None where it follows from the file's layout. labels: None where the file's host does not name its classes.
    is_imagenet1k: its classes are those of ILSVRC 2012.
    mirror: the variable of the environment that names another host.
    notes: what is not quite as its host has it, a line each.
    spec: what this project has written beside the weights; None for weights of others.
    """

    url: str
    filename: str
    pixel_mean: tuple[float, ...] = (127.5,)
    pixel_std: tuple[float, ...] = (127.5,)
    interpolation: Interpolation = "bicubic"
    fit: Fit = PAPER_FIT
    gelu: Literal["tanh", "erf"] | None = None
    labels: tuple[str, ...] | None = None
    is_imagenet1k: bool = False
    mirror: str | None = None
    repository: str | None = None
    endpoint: str | None = None
    revision: str = "main"
    has_config: bool = False
    notes: tuple[str, ...] = ()
    spec: ModelSpec | None = None
