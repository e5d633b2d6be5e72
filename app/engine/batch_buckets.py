"""The batch sizes that a GPU prepares for. Knows nothing of sessions.

A captured graph runs one batch size only, so a batch is padded to the next rung. Powers of two with one size between
keep the ladder short and the padding under a third of any run.
"""

from bisect import bisect_left
from collections.abc import Sequence


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
