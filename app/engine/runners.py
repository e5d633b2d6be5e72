"""One instance's way to run a batch: images in, logits and embeddings out.

Knows nothing of providers or of opening a session.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from app.engine.session import Session

Patches = NDArray[np.uint8]
Logits = NDArray[np.float32]
Embedding = NDArray[np.float32]

INPUT, LOGITS, EMBEDDING = "patches", "logits", "embedding"


class Outputs(NamedTuple):
    """What a run gives of n pictures: logits float32 [n, K], embedding float32 [n, C].

    The embedding is the mean over patches before the head; None where the graph has no such output.
    """

    logits: Logits
    embedding: Embedding | None = None


class Runner(Protocol):
    """What an instance runs with. Its thread is the only one that uses it, unless its session may be shared."""

    def run(self, patches: Sequence[Patches]) -> Outputs:
        """The outputs of n pictures, each uint8 [S, P*P*C]."""
        ...

    def padding(self, batch_size: int) -> int:
        """How many empty images pad a run of `batch_size` pictures."""
        ...


class SessionRunner:
    """A batch of any size, as it is. Its session may be shared: ONNX Runtime lets several threads run one on a CPU.

    `embedding_dim`: None where the graph has no embedding.
    """

    def __init__(self, session: Session, embedding_dim: int | None = None) -> None:
        self._session = session
        self._names = [LOGITS] if embedding_dim is None else [LOGITS, EMBEDDING]

    def run(self, patches: Sequence[Patches]) -> Outputs:
        """The outputs of n pictures, each uint8 [S, P*P*C]."""
        return Outputs(*cast("Sequence[Any]", self._session.run(self._names, {INPUT: np.stack(patches)})))

    def padding(self, batch_size: int) -> int:
        """0: no run is padded."""
        return 0
