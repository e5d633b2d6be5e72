"""Bodies of requests and answers. The OpenAPI document is made of these."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from app.collection.record import REQUEST_ID, Label
from app.serving.registry import ModelsBody
from app.shadow.shadow import ShadowEntry
from model import spec
from model.reference import Reference


class ModelName(BaseModel):
    """Which classifier answered."""

    name: str
    version: str
    precision: Literal["fp32", "fp16", "int8"]


class PredictionBody(BaseModel):
    """One label."""

    label: str
    index: int = Field(description="Position of the label among the model's classes, from 0.")
    probability: float = Field(ge=0, le=1)


class LabelSetBody(BaseModel):
    """Labels among which the true one is with the probability `coverage`."""

    coverage: float = Field(gt=0, lt=1)
    labels: list[str] = Field(min_length=1, description="Most probable first.")


class CertaintyBody(BaseModel):
    """How sure an answer is."""

    uncertain: bool | None = Field(
        None, description="Whether the energy is below the threshold; absent where there is none."
    )
    energy: float | None = Field(
        None, description="Log-sum-exp of the logits: low for pictures unlike those of training; absent likewise."
    )
    set: LabelSetBody | None = Field(None, description="Absent unless `set` asks for it.")


class ClassifyBody(CertaintyBody):
    """The answer to one picture, most probable label first."""

    model: ModelName
    predictions: list[PredictionBody]


class EntryError(BaseModel):
    """Why one picture of a batch has no predictions."""

    code: str
    detail: str


class BatchEntry(CertaintyBody):
    """One picture of a batch: predictions or an error."""

    filename: str
    predictions: list[PredictionBody] | None = None
    error: EntryError | None = None


class BatchBody(BaseModel):
    """The answers to several pictures, in the order they were sent."""

    model: ModelName
    results: list[BatchEntry]


class GridBody(BaseModel):
    """A number for each patch, in rows from the top."""

    rows: int
    columns: int
    values: list[list[float]] = Field(
        description="What the patch adds to the logit of the target; below 0 where it speaks against it."
    )


class RegionBody(BaseModel):
    """What the grid covers of the upright upload, in its pixels; beyond it where the model sees padding.

    Of an upload that the model turned: of what that is after it was turned back around its middle.
    """

    left: float
    top: float
    right: float
    bottom: float
    width: int = Field(description="Of the upload, upright.")
    height: int
    turned: float = Field(
        default=0.0, description="By how many degrees, counterclockwise, the model took the thing to be turned."
    )


class ExplanationBody(BaseModel):
    """What in a picture carries one of its labels."""

    model: ModelName
    target: PredictionBody
    method: str
    baseline: str = Field(description="What a hidden patch shows.")
    unit: str
    runs: int = Field(description="How many pictures, masked or whole, were run for it.")
    grid: GridBody
    region: RegionBody


class FeedbackWanted(BaseModel):
    """What a kept picture really shows."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(pattern=rf"^{REQUEST_ID}$", description="The X-Request-ID of its answer.")
    label: Label = Field(description="Its true label; one that the model does not have is a new class.")
    index: int = Field(0, ge=0, le=999_999, description="Its position in the request, from 0.")


class FeedbackBody(BaseModel):
    """A label that was written down."""

    request_id: str
    index: int
    label: str
    predicted: str = Field(description="What the model had said.")
    right: bool = Field(description="Whether these are the same.")


class LimitsBody(BaseModel):
    """What a client may send, and how much of it the service has inside at once."""

    max_picture_bytes: int
    max_picture_pixels: int
    max_pictures_per_request: int
    max_request_bytes: int
    request_timeout_s: float
    max_batch_size: int
    queue_capacity: int = Field(description="Pictures inside the whole service at once.")
    formats: list[str]


class FullLimitsBody(LimitsBody):
    """Those, and what all workers together keep to."""

    upload_memory_bytes: int = Field(description="Most bytes of request bodies in the whole service.")
    decode_memory_bytes: int = Field(description="Memory for decoding in the whole service.")
    max_connections: int = Field(description="Open connections of the whole service.")
    workers: int = Field(description="Processes that the service consists of.")


class Source(spec.Source):
    """Where the weights came from and under which license."""

    @computed_field(  # type: ignore[prop-decorator]  # `deprecated` itself would warn at every answer
        description="The same, by its name before 0.3.", json_schema_extra={"deprecated": True}
    )
    @property
    def licence(self) -> str:
        """The license."""
        return self.license


class Tilt(spec.Tilt):
    """What says by how many degrees a thing is turned; one turned by more than `beyond` is turned back."""

    weights: str = Field(exclude=True)  # tens of kilobytes


class Fit(spec.Fit):
    """How a picture of any shape becomes a square."""

    tilt: Tilt | None = Field(default=None, exclude_if=lambda tilt: tilt is None)


class ModelSpec(spec.ModelSpec):
    """What one classifier expects and means. Sizes are square and in pixels."""

    fit: Fit = Fit()
    source: Source
    conformal: spec.Conformal | None = Field(default=None, exclude=True)  # up to 1000 numbers: SetsBody tells of them
    reference: Reference | None = Field(default=None, exclude=True)  # a number for each class: mixer inspect has it


class SetsBody(BaseModel):
    """The held-out pictures on which sets of labels rest."""

    data_set: str
    num_pictures: int


class PublicModelBody(BaseModel):
    """The classifier, and the limits."""

    spec: ModelSpec
    sets: SetsBody | None = Field(description="What `set` of /classify rests on; null where it cannot be asked for.")
    precision: Literal["fp32", "fp16", "int8"]
    embedding_dim: int | None = Field(description="How many numbers an embedding has; null where there are none.")
    limits: LimitsBody
    card: str | None = Field(description="Where its model card is; null where its bundle has none.")


class ModelBody(PublicModelBody):
    """The classifier, what runs it, and the limits."""

    limits: FullLimitsBody
    provider: str
    instances: int = Field(description="Runs side by side in each worker.")
    lanes: int = Field(description="The same, by its name before 0.3.", deprecated=True)
    precision_reason: str = Field(description="Why this graph of the bundle runs, and no other.")
    fallback: str | None = Field(description="Why the provider is not the one preferred; null where it is.")


class AllModelsBody(ModelsBody):
    """What is served, and what is tried beside it."""

    shadow: ShadowEntry | None = Field(
        default=None, description="The second model of this worker; null where there is none."
    )


class LiveBody(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class PublicReadyBody(BaseModel):
    """The service classifies correctly."""

    status: Literal["ready"] = "ready"


class ReadyBody(PublicReadyBody):
    """The service classifies correctly, and what runs it."""

    provider: str
    precision: Literal["fp32", "fp16", "int8"]
    precision_reason: str
    fallback: str | None = None


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="A URN that ends in the code.")
    title: str = Field(description="The same for every error of this code.")
    status: int = Field(description="The status of the answer.")
    detail: str = Field(description="The thing, its value, and what was expected.")
    code: str = Field(description="Stable, for programs.")
