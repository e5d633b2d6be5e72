"""What is written beside a kept picture: its answer, and later its true label. Knows nothing of folders."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from model.spec import Precision

MOST_LABEL_CHARACTERS = 100
REQUEST_ID = r"[A-Za-z0-9._-]{1,64}"  # what http/request_log.py takes of a client
NAME = rf"{REQUEST_ID}-\d{{1,6}}"  # of the files of a picture, without their endings


def _is_plain(label: str) -> str:
    if not label.isprintable() or label != label.strip():
        raise ValueError("expected a label of printable characters, without blanks around it")
    return label


Label = Annotated[str, Field(min_length=1, max_length=MOST_LABEL_CHARACTERS), AfterValidator(_is_plain)]  # of a person


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Answerer(_Written):
    """The model that answered."""

    name: str
    version: str
    precision: Precision


class Predicted(_Written):
    """One label of the answer."""

    label: str
    index: int
    probability: float


class Record(_Written):
    """One picture's answer. `index`: its position in the request. `picture`: its file, in the same folder.

    `uncertain`: by the model's own threshold; None where it has none. `chosen_by`: the rules that chose it.
    """

    time: str
    request_id: str
    index: int
    model: Answerer
    predictions: tuple[Predicted, ...] = Field(min_length=1)
    uncertain: bool | None
    energy: float
    chosen_by: tuple[str, ...]
    picture: str


class Correction(_Written):
    """What somebody says the picture shows."""

    time: str
    label: Label


Outcome = Literal["kept", "repeated", "dropped_limit", "dropped_full", "dropped_failing", "failed"]


def name_of(request_id: str, index: int) -> str:
    """What the files of a picture are called, without their endings."""
    return f"{request_id}-{index}"


def is_name(name: str) -> bool:
    """Whether files of a picture are called so."""
    return re.fullmatch(NAME, name) is not None
