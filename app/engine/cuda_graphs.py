"""One lane on a GPU: bound buffers and, for every rung of the ladder, one captured CUDA graph. Knows no providers.

Shapes: S patches of P*P*C bytes a picture, K classes. The device is a parameter, so that the same path runs on a CPU.

A captured graph runs one batch size only, so a batch is padded to the next rung. Powers of two with one size between
keep the ladder short and the padding under a third of any run.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from app.engine.gpu_buffers import DeviceArray, Memory
from app.engine.instance import Lane
from app.engine.runners import INPUT, LOGITS, Logits, Patches
from app.engine.session import Session, one_line
from app.errors import EngineError
from model.spec import ModelSpec

_GRAPH_ID = "gpu_graph_id"
_UNCAPTURED = -1
_REPLAY_TOLERANCE = 0.02  # of the largest logit: a wrong graph is off by all of it, another choice of kernel by less


def ladder(max_batch_size: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12, 16, 24, 32, ... and, at the top, `max_batch_size` itself.

    Raises: ValueError below 1.
    """
    if max_batch_size < 1:
        raise ValueError(f"max_batch_size is {max_batch_size}; expected at least 1.")
    doublings = range(max_batch_size.bit_length())
    sizes = {2**k for k in doublings} | {3 * 2**k for k in doublings}
    return tuple(sorted({size for size in sizes if size < max_batch_size} | {max_batch_size}))


def rung_for(batch_size: int, rungs: Sequence[int]) -> int:
    """The smallest of the ascending `rungs` that holds `batch_size` pictures. Raises ValueError where none does."""
    if not 1 <= batch_size <= rungs[-1]:
        raise ValueError(f"The batch has {batch_size} pictures; expected 1 to {rungs[-1]}. This is a bug.")
    return rungs[bisect_left(rungs, batch_size)]


@dataclass(frozen=True)
class _Rung:
    """A batch size with memory of its own: what is bound here is bound for good."""

    patches: DeviceArray  # uint8 [rung, S, P*P*C]
    logits: DeviceArray  # float32 [rung, K]
    binding: Any
    captured: Any  # run options: capture the graph with this rung's id, or replay it
    uncaptured: Any


class LadderRunner:
    """Pads a batch to the next rung and runs it from and to fixed addresses, in a thread of its own.

    Raises: EngineError where there is too little memory for its buffers.
    """

    def __init__(self, session: Session, spec: ModelSpec, max_batch_size: int, memory: Memory) -> None:
        self._session = session
        self._sizes = ladder(max_batch_size)
        self._lane = Lane("gpu")
        picture = (spec.num_patches, spec.patch_bytes)
        try:
            self._host = self._lane.call(memory.host, (max_batch_size, *picture))
            self._rungs = {
                size: self._lane.call(_bind, session, memory, (size, *picture), (size, spec.num_classes))
                for size in self._sizes
            }
        except Exception as error:
            raise EngineError(f"No buffers for batches of up to {max_batch_size}: {one_line(error)}") from error

    def run(self, patches: Sequence[Patches]) -> Logits:
        """Logits float32 [n, K] of n pictures, each uint8 [S, P*P*C]; n may be any up to the top of the ladder."""
        return self._lane.call(self._replay, patches)

    def padding(self, batch_size: int) -> int:
        """Places between `batch_size` and the next rung."""
        return rung_for(batch_size, self._sizes) - batch_size

    def capture(self) -> None:
        """Capture every rung, and prove that each replay answers like the graph itself.

        Raises: EngineError where a rung does not run, or its replay answers otherwise.
        """
        self._lane.call(self._capture)

    def _replay(self, patches: Sequence[Patches]) -> Logits:
        rung = rung_for(len(patches), self._sizes)
        np.stack(patches, out=self._host[: len(patches)])
        self._host[len(patches) : rung] = 0  # whoever was here before is gone
        return self._answer(rung, self._rungs[rung].captured)[: len(patches)]

    def _answer(self, rung: int, options: Any) -> Logits:
        """Logits float32 [rung, K], a copy, of what the host buffer holds."""
        bound = self._rungs[rung]
        bound.patches.update_inplace(self._host[:rung])
        self._session.run_with_iobinding(bound.binding, options)
        return np.array(bound.logits.numpy())

    def _capture(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, self._host.shape, dtype=np.uint8)
        expected: dict[int, Logits] = {}
        for rung in reversed(self._sizes):  # the largest first: the arena then holds the others without growing
            self._host[:] = noise
            expected[rung] = self._try(rung, self._rungs[rung].uncaptured)
            self._host[:] = 0
            self._try(rung, self._rungs[rung].captured)
        self._host[:] = noise
        for rung in self._sizes:
            _expect_same(rung, self._try(rung, self._rungs[rung].captured), expected[rung])
        self._host[:] = 0

    def _try(self, rung: int, options: Any) -> Logits:
        try:
            return self._answer(rung, options)
        except Exception as error:
            raise EngineError(f"The graph does not run a batch of {rung}: {one_line(error)}") from error


def _bind(
    session: Session, memory: Memory, patches_shape: tuple[int, int, int], logits_shape: tuple[int, int]
) -> _Rung:
    patches, logits = memory.device(patches_shape, np.uint8), memory.device(logits_shape, np.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input(INPUT, patches)
    binding.bind_ortvalue_output(LOGITS, logits)
    return _Rung(patches, logits, binding, _run_options(patches_shape[0]), _run_options(_UNCAPTURED))


def _run_options(graph_id: int) -> Any:
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(_GRAPH_ID, str(graph_id))
    return options


def _expect_same(rung: int, replayed: Logits, expected: Logits) -> None:
    drift = float(np.abs(replayed - expected).max())
    allowed = _REPLAY_TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not drift <= allowed:  # nor is it a number where a logit is not
        raise EngineError(
            f"The captured graph of {rung} pictures answers otherwise than the graph itself: its logits are off by "
            f"{drift:.4g}; expected at most {allowed:.4g}."
        )
