"""card.json: the fields of Google's Model Card Toolkit, schema 0.0.2, that are filled here, and nothing else."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    """A frozen part of a card that accepts no unknown field; empty ones are not written."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Owner(_Part):
    """Who answers for the model."""

    name: str


class Version(_Part):
    """Of the model, not of the card."""

    name: str


class License(_Part):
    """An SPDX identifier, or words where there is none."""

    identifier: str | None = None
    custom_text: str | None = None


class Reference(_Part):
    """A link."""

    reference: str


class ModelDetails(_Part):
    """What the model is and whose."""

    name: str
    overview: str
    owners: tuple[Owner, ...] = ()
    version: Version
    licenses: tuple[License, ...] = ()
    references: tuple[Reference, ...] = ()


class Dataset(_Part):
    """A data set that the model was trained or judged with."""

    name: str
    link: str | None = None
    description: str


class ModelParameters(_Part):
    """How the model is built and what it takes."""

    model_architecture: str
    data: tuple[Dataset, ...] = ()
    input_format: str
    output_format: str


class Interval(_Part):
    """A 95 % confidence interval."""

    lower_bound: float
    upper_bound: float


class PerformanceMetric(_Part):
    """A number; `slice`: of which part of the data, or of what."""

    type: str
    value: float
    slice: str | None = None
    confidence_interval: Interval | None = None


class Graphic(_Part):
    """A chart, by its path from the card."""

    name: str


class Graphics(_Part):
    """The charts."""

    description: str
    collection: tuple[Graphic, ...]


class QuantitativeAnalysis(_Part):
    """Everything that was measured."""

    performance_metrics: tuple[PerformanceMetric, ...] = ()
    graphics: Graphics | None = None


class Described(_Part):
    """A use, a limit or a tradeoff."""

    description: str


class Risk(_Part):
    """What may do harm, and what is done about it."""

    name: str
    mitigation_strategy: str | None = None


class Considerations(_Part):
    """What to think of before the model is used."""

    use_cases: tuple[Described, ...] = ()
    limitations: tuple[Described, ...] = ()
    tradeoffs: tuple[Described, ...] = ()
    ethical_considerations: tuple[Risk, ...] = ()


class ModelCard(_Part):
    """The whole card."""

    schema_version: Literal["0.0.2"]
    model_details: ModelDetails
    model_parameters: ModelParameters
    quantitative_analysis: QuantitativeAnalysis
    considerations: Considerations
