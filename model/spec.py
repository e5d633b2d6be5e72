"""A graph's inputs and the meaning of its outputs. Knows nothing of torch, ONNX or HTTP.

A ModelSpec travels as JSON: in a checkpoint's config.json and in the metadata of every exported graph, under
METADATA_KEY, so that one .onnx file is a whole classifier.
"""

import base64
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from model.old_names import renamed
from model.reference import Reference

METADATA_KEY = "mixer.spec"
PRECISION_KEY = "mixer.precision"
INT8_KERNELS_KEY = "mixer.int8_kernels"  # of an int8 graph; absent in files of earlier versions
PAIRS_FIT_INT16 = "pairs_fit_int16"  # its value: see export/int8/kernels.py
INT8_SCALES_KEY = "mixer.int8_scales"  # of an int8 graph: where the scales of its activations come from

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Precision = Literal["fp32", "fp16", "int8"]
Int8Scales = Literal["pictures", "rows"]
"""pictures: fixed, from pictures that the export had. rows: taken by the graph from every row that it multiplies."""
FitMode = Literal["crop", "pad", "stretch"]
Background = Literal["any", "dark", "black"]
Frame = Literal["picture", "thing"]


class _Value(BaseModel):
    """A frozen value that accepts no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tilt(_Value):
    """A small network that says by how many degrees a thing is turned; one turned by more than `beyond` is turned back.

    Layers of `sizes` units, with a ReLU between each two. The first takes a grey square of so many pixels, row by row,
    0 to 1; the last gives degrees, counterclockwise. `weights`: base64 of little-endian float16, of each layer its
    matrix [out, in], row by row, and then its bias [out].
    """

    beyond: float = Field(gt=0, lt=90)
    sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=2)
    weights: str = Field(repr=False)

    @model_validator(mode="after")
    def _weights_fill_the_layers(self) -> Self:
        if math.isqrt(self.sizes[0]) ** 2 != self.sizes[0] or self.sizes[-1] != 1:
            raise ValueError(f"sizes is {list(self.sizes)}; expected a square number first, and 1 last.")
        expected = 2 * sum((inputs + 1) * outputs for inputs, outputs in pairwise(self.sizes))
        found = len(base64.b64decode(self.weights, validate=True))
        if found != expected:
            raise ValueError(f"weights has {found} bytes; expected {expected} for layers of {list(self.sizes)}.")
        return self


class Fit(_Value):
    """How a picture of any shape becomes a square.

    `crop`: the central `crop_percentage` of the shorter side. `pad`: the whole picture, the missing strips filled with
    its own border color. `stretch`: the whole picture, aspect ratio given up.

    `background` dark: a square whose outermost pixels are light on average is inverted, so that a thing photographed
    before white looks like one before black, and a picture and its negative get the same answer. black: after that, the
    lower quartile of the outermost pixels becomes 0 and all that is brighter is stretched to 255, channel by channel.

    `frame` thing: the square is laid around what is brighter than a black background, whatever room there was around
    it. It takes a black background.

    `tilt`: what tells by how much a thing is turned, so that it is turned back. It takes mode pad, which keeps angles
    and shows nothing in part, and a frame of the thing.
    """

    mode: FitMode = "crop"
    crop_percentage: float = Field(default=1.0, gt=0, le=1)
    background: Background = "any"
    frame: Frame = "picture"
    tilt: Tilt | None = Field(default=None, exclude_if=lambda tilt: tilt is None)  # earlier versions read the rest

    @model_validator(mode="after")
    def _has_a_thing_to_frame(self) -> Self:
        if self.frame == "thing" and self.background != "black":
            raise ValueError(f"frame is thing and background is {self.background}; expected black beside it.")
        if self.tilt is not None and self.frame != "thing":
            raise ValueError(f"a tilt is given and frame is {self.frame}; expected thing beside it.")
        if self.tilt is not None and self.mode != "pad":
            raise ValueError(f"a tilt is given and mode is {self.mode}; expected pad beside it.")
        return self


class Metrics(_Value):
    """Metrics of the classifier on held-out pictures. Rates are fractions in [0, 1]."""

    data_set: str
    num_pictures: int = Field(ge=1)
    top1: float = Field(ge=0, le=1)
    top5: float = Field(ge=0, le=1)
    calibration_error: float = Field(ge=0, le=1)


class Canary(_Value):
    """A picture with a stored answer: base64 PNG, its logits, and their absolute tolerance."""

    picture: str
    logits: tuple[FiniteFloat, ...]
    atol: float = Field(gt=0, allow_inf_nan=False)

    @field_validator("picture")
    @classmethod
    def _is_base64(cls, picture: str) -> str:
        base64.b64decode(picture, validate=True)
        return picture


class Conformal(_Value):
    """Nonconformity scores of held-out pictures, from which a set of labels is made at any coverage.

    A score is 1 minus the probability of the true label (LAC, arXiv 1609.00451). `scores`: ascending, of num_pictures
    or, where these are more, as many evenly spaced order statistics, the largest among them.
    """

    data_set: str
    num_pictures: int = Field(ge=1)
    scores: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(min_length=1)

    def quantile(self, coverage: float) -> float:
        """The largest score of a label in a set with this coverage, in (0, 1); 1 where the pictures are too few for it.

        The score of rank ceil((n + 1) * coverage), or the next one that is stored (arXiv 2107.07511, section 1).
        """
        rank = max(1, math.ceil(round((self.num_pictures + 1) * coverage, 9)))  # 100 * 0.07 is 7.000000000000001
        if rank > self.num_pictures:
            return 1.0
        return self.scores[(rank - 1) * len(self.scores) // self.num_pictures]

    @model_validator(mode="after")
    def _is_sorted(self) -> Self:
        if list(self.scores) != sorted(self.scores):
            raise ValueError("scores are not in ascending order; expected them sorted.")
        if len(self.scores) > self.num_pictures:
            raise ValueError(f"scores has {len(self.scores)} entries; expected at most num_pictures.")
        return self


class Source(_Value):
    """Where the weights came from and under which license."""

    origin: str
    license: str = "unknown"

    @model_validator(mode="before")
    @classmethod
    def _by_todays_names(cls, given: Any) -> Any:
        return renamed(given) if isinstance(given, Mapping) else given


class Network(_Value):
    """Sizes of the network inside, by the paper's names (MixerConfig has all of them).

    head_hidden_dim: 0 where the head is linear, and not written then: earlier versions read such a spec.
    """

    hidden_dim: int = Field(ge=1)
    num_blocks: int = Field(ge=1)
    tokens_mlp_dim: int = Field(ge=1)
    channels_mlp_dim: int = Field(ge=1)
    head_hidden_dim: int = Field(default=0, ge=0, exclude_if=lambda dim: dim == 0)


class ModelSpec(_Value):
    """One classifier's inputs and outputs. Sizes are square and in pixels."""

    name: str = Field(min_length=1)
    version: str = "1"
    variant: str = "custom"
    image_size: int = Field(ge=1)
    patch_size: int = Field(ge=1)
    channels: Literal[1, 3]
    num_classes: int = Field(ge=1)
    labels: tuple[str, ...]
    fit: Fit = Fit()
    interpolation: Interpolation = "bicubic"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    energy_threshold: FiniteFloat | None = None  # of the logits' log-sum-exp; an answer below it is uncertain
    conformal: Conformal | None = None
    reference: Reference | None = None  # what live answers are compared with; without it nothing tells of drift
    metrics: Metrics | None = None
    canary: Canary | None = None
    network: Network | None = None  # every graph written by mixer export has it
    source: Source

    @property
    def num_patches(self) -> int:
        """S: how many patches a picture becomes."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_bytes(self) -> int:
        """P * P * C: how many bytes a patch holds."""
        return self.patch_size**2 * self.channels

    @property
    def gflops(self) -> float | None:
        """GFLOP that one picture takes: two for each multiply-add of a matrix product. None where it is not known."""
        if self.network is None:
            return None
        tokens, hidden = self.num_patches, self.network.hidden_dim
        token_mixing = 2 * hidden * tokens * self.network.tokens_mlp_dim
        channel_mixing = 2 * tokens * hidden * self.network.channels_mlp_dim
        blocks = self.network.num_blocks * (token_mixing + channel_mixing)
        head_hidden = self.network.head_hidden_dim
        head = hidden * head_hidden + (head_hidden or hidden) * self.num_classes
        return 2e-9 * (tokens * self.patch_bytes * hidden + blocks + head)

    @property
    def widest_activation(self) -> int | None:
        """Numbers in the largest activation of one picture. None where it is not known."""
        if self.network is None:
            return None
        token_mixing = self.network.hidden_dim * max(self.num_patches, self.network.tokens_mlp_dim)
        return max(token_mixing, self.num_patches * max(self.network.channels_mlp_dim, self.patch_bytes))

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size is {self.image_size}; expected a multiple of patch_size {self.patch_size}.")
        if len(self.labels) != self.num_classes:
            raise ValueError(f"labels has {len(self.labels)} entries; expected num_classes {self.num_classes}.")
        if self.reference is not None and len(self.reference.classes) != self.num_classes:
            raise ValueError(
                f"reference.classes has {len(self.reference.classes)} entries; expected num_classes {self.num_classes}."
            )
        if self.canary is not None and len(self.canary.logits) != self.num_classes:
            raise ValueError(
                f"canary.logits has {len(self.canary.logits)} entries; expected num_classes {self.num_classes}."
            )
        return self
