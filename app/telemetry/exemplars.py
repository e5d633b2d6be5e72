"""The last sampled request in each bucket of a histogram, on the shared memory. Knows no metric by name.

A bucket has room for one, so that memory is bounded by the number of buckets. A reader in another process never takes
half of an old one and half of a new one for a whole: the count of writes stands before and behind what is written.
"""

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prometheus_client import core

from app.system.shared_memory import Segment
from app.telemetry.tracing import SpanId

SUFFIX = "#exemplars"  # of a histogram's name, for where its exemplars are
_WORD_BITS = 32  # of an id in one number: a double holds them exactly
_WORDS = 6  # four of the trace's id, two of the span's
_SIZE = 1 + 2 + _WORDS + 1  # writes, value, time, words, writes again
_MASK = (1 << _WORD_BITS) - 1


class Exemplar(NamedTuple):
    """A value, when it was observed in seconds since 1970, and the span that it is of."""

    value: float
    timestamp: float
    ident: SpanId

    def told(self) -> core.Exemplar:
        """In the words of prometheus_client."""
        labels = {"trace_id": f"{self.ident.trace_id:032x}", "span_id": f"{self.ident.span_id:016x}"}
        return core.Exemplar(labels, self.value, self.timestamp)


class Exemplars:
    """Those of one distribution of this process, in `buckets` of it. Takes no memory before there is one."""

    __slots__ = ("_at", "_segment")

    def __init__(self, segment: Segment, name: str, buckets: int) -> None:
        self._segment = segment
        self._at = segment.offset_of(name, buckets * _SIZE)

    def set(self, bucket: int, value: float, ident: SpanId) -> None:
        """Replace the one of this bucket."""
        numbers, at = self._segment.numbers, self._at + bucket * _SIZE
        writes = numbers[at] + 1
        whole = (ident.trace_id << 2 * _WORD_BITS) | ident.span_id
        words = [(whole >> shift * _WORD_BITS) & _MASK for shift in range(_WORDS)]
        written = (writes, value, time.time(), *words, writes)
        for place in reversed(range(_SIZE)):  # readers go the other way, and see two different counts until it is whole
            numbers[at + place] = written[place]


def newest(rows: Iterable[Sequence[float]], buckets: int) -> list[Exemplar | None]:
    """The newest exemplar of each bucket, of the rows of all processes."""
    found: list[Exemplar | None] = [None] * buckets
    for row in rows:
        for bucket in range(buckets):
            one = _read(row[bucket * _SIZE : (bucket + 1) * _SIZE])
            known = found[bucket]
            if one is not None and (known is None or one.timestamp > known.timestamp):
                found[bucket] = one
    return found


def _read(numbers: Sequence[float]) -> Exemplar | None:
    """None where there is none, or where it was being written."""
    writes, value, timestamp, *words, writes_again = numbers
    if not writes or writes != writes_again:
        return None
    whole = sum(int(word) << shift * _WORD_BITS for shift, word in enumerate(words))
    return Exemplar(value, timestamp, SpanId(whole >> 2 * _WORD_BITS, whole & (1 << 2 * _WORD_BITS) - 1))
