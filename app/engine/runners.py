"""One instance's way to run a batch: images in, outputs of the graph out. Knows no providers, and opens no session."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from app.engine.session import Session

Patches = NDArray[np.uint8]
Logits = NDArray[np.float32]

Embedding = NDArray[np.float32]

INPUT, LOGITS, EMBEDDING = "patches", "logits", "embedding"


class Outputs(NamedTuple):
    """What a graph gives for n images: logits [n, K], embedding [n, C], or None of a graph without this output."""

    logits: Logits
    embedding: Embedding | None = None


class Runner(Protocol):
    """What an instance runs with. Its thread is the only one that uses it, unless its session may be shared."""

    def run(self, patches: Sequence[Patches]) -> Outputs:
        """The outputs for n pictures, each uint8 [S, P*P*C]."""
        ...

    def padding(self, batch_size: int) -> int:
        """How many empty images pad a run of `batch_size` pictures."""
        ...


class SessionRunner:
    """A batch of any size, as it is. Its session may be shared: ONNX Runtime lets several threads run one on a CPU."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names = (LOGITS,) if embedding_dim_of(session) is None else (LOGITS, EMBEDDING)

    def run(self, patches: Sequence[Patches]) -> Outputs:
        """The outputs for n pictures, each uint8 [S, P*P*C]."""
        return Outputs(*cast(list[NDArray[np.float32]], self._session.run(self._names, {INPUT: np.stack(patches)})))

    def padding(self, batch_size: int) -> int:
        """0: no run is padded."""
        return 0


def embedding_dim_of(session: Session) -> int | None:
    """How many numbers an embedding has; None where the graph gives none."""
    shapes = [entry.shape for entry in session.get_outputs() if entry.name == EMBEDDING]
    return int(shapes[0][1]) if shapes else None
