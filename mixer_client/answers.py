"""What is answered, as values. Knows neither JSON nor HTTP."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mixer_client.errors import MixerError


@dataclass(frozen=True, slots=True)
class ModelName:
    """Which model answered, and whether in fp32, fp16 or int8."""

    name: str
    version: str
    precision: str


@dataclass(frozen=True, slots=True)
class Embedding:
    """What a model sees in an image: float32 numbers as its graph gives them.

    model: which one gave them; None where the service, of an earlier version, does not tell.
    """

    values: "array[float]"
    model: ModelName | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One label with its index among the model's classes, and its probability in [0, 1]."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels, most probable first, among which the true one is with the probability `coverage`."""

    coverage: float
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer to one image.

    predictions: most probable first, never empty. uncertain, energy: None where the model has no threshold and none
    was given. set: None where no coverage was asked for. request_id: as in the service's log. timing: milliseconds in
    the service by stage, `total` among them. batch_size: how many images ran together.
    """

    model: ModelName
    predictions: tuple[Prediction, ...]
    uncertain: bool | None
    energy: float | None
    set: LabelSet | None
    request_id: str
    timing: Mapping[str, float]
    batch_size: int | None

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.predictions[0].label

    @property
    def probability(self) -> float:
        """That of the most probable label, in [0, 1]."""
        return self.predictions[0].probability


@dataclass(frozen=True, slots=True)
class Grid:
    """What each cell of a region adds to the target: values[row][column]; below 0 where it speaks against it."""

    rows: int
    columns: int
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Region:
    """What the model saw, in pixels of the image as it is shown, which has `width` x `height` of them.

    turned: by how many degrees, counterclockwise, the model took what it shows to be turned; the sides are those of the
    image after it was turned back by them around its middle.
    """

    left: float
    top: float
    right: float
    bottom: float
    width: int
    height: int
    turned: float = 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which parts of an image speak for a label.

    baseline: what a hidden part shows. unit: that of the numbers in the grid, `logit`. runs: how many images, masked or
    whole, were run for it. request_id, timing: as in Classification.
    """

    model: ModelName
    method: str
    baseline: str
    unit: str
    runs: int
    target: Prediction
    grid: Grid
    region: Region
    request_id: str
    timing: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that is served: `name` asks for it, `model` is what it calls itself in answers."""

    name: str
    model: str
    version: str
    precision: str
    num_classes: int
    ready: bool


@dataclass(frozen=True, slots=True)
class Models:
    """The models that are served, and the name of the one that answers where none is asked for."""

    default: str
    models: tuple[ModelInfo, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one of many images: its classification, or the error in its place.

    position: among those given, from 0. image: as it was given.
    """

    position: int
    image: Any
    classification: Classification | None = None
    error: MixerError | None = None
