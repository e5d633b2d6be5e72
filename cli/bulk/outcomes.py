"""What becomes of one picture: labels, an embedding, or why it has neither. Knows nothing of how it came about."""

from typing import TYPE_CHECKING, NamedTuple

from app.errors import ServiceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.inference.answer import Prediction

UNREADABLE = "unreadable_file"


class Failure(NamedTuple):
    """Why a picture has no answer: the service's code or one of the command line's, and the reason."""

    code: str
    detail: str


class SetOfLabels(NamedTuple):
    """Labels, most probable first, among which the true one is with the probability `coverage`."""

    coverage: float
    labels: tuple[str, ...]


class Labelled(NamedTuple):
    """The labels of a picture, most probable first, and how sure they are.

    uncertain, energy: None where they are not known. label_set: None where none was asked for.
    """

    predictions: "list[Prediction]"
    uncertain: bool | None = None
    energy: float | None = None
    label_set: SetOfLabels | None = None


class Embedded(NamedTuple):
    """The embedding of a picture: float32 [C]."""

    embedding: "NDArray[np.float32]"


Outcome = Labelled | Embedded | Failure


def failure_of(error: ServiceError) -> Failure:
    """As the service would tell of it."""
    return Failure(error.code, error.detail)
