"""One instance's way to run a batch: images in, logits out. Knows nothing of providers or of opening a session."""

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from app.engine.session import Session

Patches = NDArray[np.uint8]
Logits = NDArray[np.float32]

INPUT, LOGITS = "patches", "logits"


class Runner(Protocol):
    """What an instance runs with. Its thread is the only one that uses it, unless its session may be shared."""

    def run(self, patches: Sequence[Patches]) -> Logits:
        """Logits float32 [n, K] of n pictures, each uint8 [S, P*P*C]."""
        ...

    def padding(self, batch_size: int) -> int:
        """How many empty images pad a run of `batch_size` pictures."""
        ...


class SessionRunner:
    """A batch of any size, as it is. Its session may be shared: ONNX Runtime lets several threads run one on a CPU."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def run(self, patches: Sequence[Patches]) -> Logits:
        """Logits float32 [n, K] of n pictures, each uint8 [S, P*P*C]."""
        (logits,) = self._session.run([LOGITS], {INPUT: np.stack(patches)})
        return cast(Logits, logits)

    def padding(self, batch_size: int) -> int:
        """0: no run is padded."""
        return 0
