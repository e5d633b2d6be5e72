"""One instance on a GPU: bound buffers and, for every batch bucket, one captured CUDA graph. Knows no providers.

Shapes: S patches of P*P*C bytes a picture, K classes, an embedding of C numbers. The device is a parameter, so that
the same path runs on a CPU.

A captured graph runs one batch size only, so a batch is padded to the next bucket. Powers of two with one size between
keep the buckets few and the padding under a third of any run.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.engine.gpu_buffers import DeviceArray, Memory
from app.engine.runners import EMBEDDING, INPUT, LOGITS, Outputs, Patches
from app.engine.session import Session, one_line
from app.errors import EngineError
from model.spec import ModelSpec

_GRAPH_ID = "gpu_graph_id"
_UNCAPTURED = -1
_REPLAY_TOLERANCE = 0.02  # of the largest number: a wrong graph is off by all of it, another choice of kernel by less


def batch_buckets(max_batch_size: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12, 16, 24, 32, ... and, at the top, `max_batch_size` itself.

    Raises: ValueError below 1.
    """
    if max_batch_size < 1:
        raise ValueError(f"max_batch_size is {max_batch_size}; expected at least 1.")
    doublings = range(max_batch_size.bit_length())
    sizes = {2**k for k in doublings} | {3 * 2**k for k in doublings}
    return tuple(sorted({size for size in sizes if size < max_batch_size} | {max_batch_size}))


def bucket_for(batch_size: int, buckets: Sequence[int]) -> int:
    """The smallest of the ascending `buckets` that holds `batch_size` pictures. Raises ValueError where none does."""
    if not 1 <= batch_size <= buckets[-1]:
        raise ValueError(f"The batch has {batch_size} pictures; expected 1 to {buckets[-1]}. This is a bug.")
    return buckets[bisect_left(buckets, batch_size)]


@dataclass(frozen=True)
class _Bucket:
    """A batch size with memory of its own: what is bound here is bound for good."""

    patches: DeviceArray  # uint8 [bucket, S, P*P*C]
    logits: DeviceArray  # float32 [bucket, K]
    embedding: DeviceArray | None  # float32 [bucket, C]
    binding: Any
    captured: Any  # run options: capture the graph with this bucket's id, or replay it
    uncaptured: Any


class BatchBucketRunner:
    """Pads a batch to the next bucket and runs it from and to fixed addresses. One thread makes it and uses it.

    Every bucket is captured here, and each replay proved to answer like the graph itself. `embedding_dim`: None where
    the graph has no embedding.

    Raises: EngineError where there is too little memory for its buffers, where a bucket does not run, or where its
    replay answers otherwise.
    """

    def __init__(
        self,
        session: Session,
        spec: ModelSpec,
        max_batch_size: int,
        memory: Memory,
        embedding_dim: int | None = None,
    ) -> None:
        self._session = session
        self._sizes = batch_buckets(max_batch_size)
        image = (spec.num_patches, spec.patch_bytes)
        try:
            self._host = memory.host((max_batch_size, *image))
            self._buckets = {
                size: _bind(session, memory, (size, *image), spec.num_classes, embedding_dim) for size in self._sizes
            }
        except Exception as error:
            raise EngineError(f"No buffers for batches of up to {max_batch_size}: {one_line(error)}") from error
        self._capture()

    def run(self, patches: Sequence[Patches]) -> Outputs:
        """The outputs of n pictures, each uint8 [S, P*P*C]; n may be any up to the largest bucket."""
        count = len(patches)
        bucket = bucket_for(count, self._sizes)
        np.stack(patches, out=self._host[:count])
        self._host[count:bucket] = 0  # what an earlier run left is gone
        logits, embedding = self._answer(bucket, self._buckets[bucket].captured)
        return Outputs(logits[:count], None if embedding is None else embedding[:count])

    def padding(self, batch_size: int) -> int:
        """How many empty images fill `batch_size` up to the next bucket."""
        return bucket_for(batch_size, self._sizes) - batch_size

    def _answer(self, bucket: int, options: Any) -> Outputs:
        """The outputs of all `bucket` pictures that the host buffer holds, copied."""
        bound = self._buckets[bucket]
        bound.patches.update_inplace(self._host[:bucket])
        self._session.run_with_iobinding(bound.binding, options)
        embedding = None if bound.embedding is None else np.array(bound.embedding.numpy())
        return Outputs(np.array(bound.logits.numpy()), embedding)

    def _capture(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, self._host.shape, dtype=np.uint8)
        expected: dict[int, Outputs] = {}
        for bucket in reversed(self._sizes):  # the largest first: the arena then holds the others without growing
            self._host[:] = noise
            expected[bucket] = self._try(bucket, self._buckets[bucket].uncaptured)
            self._host[:] = 0
            self._try(bucket, self._buckets[bucket].captured)
        self._host[:] = noise
        for bucket in self._sizes:
            replayed = self._try(bucket, self._buckets[bucket].captured)
            _expect_same(bucket, "logits are", replayed.logits, expected[bucket].logits)
            _expect_same(bucket, "embedding is", replayed.embedding, expected[bucket].embedding)
        self._host[:] = 0

    def _try(self, bucket: int, options: Any) -> Outputs:
        try:
            return self._answer(bucket, options)
        except Exception as error:
            raise EngineError(f"The graph does not run a batch of {bucket}: {one_line(error)}") from error


def _bind(
    session: Session,
    memory: Memory,
    patches_shape: tuple[int, int, int],
    num_classes: int,
    embedding_dim: int | None,
) -> _Bucket:
    size = patches_shape[0]
    patches, logits = memory.device(patches_shape, np.uint8), memory.device((size, num_classes), np.float32)
    embedding = None if embedding_dim is None else memory.device((size, embedding_dim), np.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input(INPUT, patches)
    binding.bind_ortvalue_output(LOGITS, logits)
    if embedding is not None:
        binding.bind_ortvalue_output(EMBEDDING, embedding)
    return _Bucket(patches, logits, embedding, binding, _run_options(size), _run_options(_UNCAPTURED))


def _run_options(graph_id: int) -> Any:
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(_GRAPH_ID, str(graph_id))
    return options


def _expect_same(
    bucket: int, output_is: str, replayed: NDArray[np.float32] | None, expected: NDArray[np.float32] | None
) -> None:
    if replayed is None or expected is None:
        return
    drift = float(np.abs(replayed - expected).max())
    allowed = _REPLAY_TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not drift <= allowed:  # nor is it a number where one of them is not
        raise EngineError(
            f"The captured graph of {bucket} pictures answers otherwise than the graph itself: its {output_is} off by "
            f"{drift:.4g}; expected at most {allowed:.4g}."
        )
