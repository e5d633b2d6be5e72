"""Counters, gauges and histograms whose numbers lie on the shared memory. Knows no metric by name.

What is counted for every picture costs a fraction of a microsecond: an addition to a number on the shared memory.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from app.system.shared_memory import Segment
from app.telemetry import exemplars
from app.telemetry.exemplars import Exemplars
from app.telemetry.tracing import SpanId

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
Samples = dict[tuple[str, ...], list[list[float]]]  # by the labels' values: each segment's numbers


class Number:
    """One number of this process."""

    __slots__ = ("_at", "_numbers")

    def __init__(self, segment: Segment, name: str) -> None:
        self._numbers = segment.numbers
        self._at = segment.offset_of(name)

    def inc(self, amount: float = 1) -> None:
        """Add to it."""
        self._numbers[self._at] += amount

    def set(self, value: float) -> None:
        """Replace it."""
        self._numbers[self._at] = value


class Distribution:
    """How often values of this process fell into each bucket, and their sum."""

    __slots__ = ("_at", "_bounds", "_numbers")

    def __init__(self, segment: Segment, name: str, bounds: Sequence[float]) -> None:
        self._numbers = segment.numbers
        self._bounds = bounds
        self._at = segment.offset_of(name, len(bounds) + 2)

    def observe(self, value: float) -> None:
        """Count one value."""
        self._numbers[self._at + bisect_left(self._bounds, value)] += 1
        self._numbers[self._at + len(self._bounds) + 1] += value


def record(counters: Iterable[Number], observed: Iterable[tuple[Distribution, float]]) -> None:
    """Add 1 to each counter, and a value to each distribution: one call for all that happens at one time."""
    for counter in counters:
        counter._numbers[counter._at] += 1  # noqa: SLF001 -- a call for each would cost more than the addition
    for distribution, value in observed:
        at, bounds, numbers = distribution._at, distribution._bounds, distribution._numbers  # noqa: SLF001 -- likewise
        numbers[at + bisect_left(bounds, value)] += 1
        numbers[at + len(bounds) + 1] += value


def add(amounts: Iterable[tuple[Number, float]]) -> None:
    """Add an amount to each number, in one call."""
    for number, amount in amounts:
        number._numbers[number._at] += amount  # noqa: SLF001 -- as above


def set_both(one: Number, value: float, other: Number, other_value: float) -> None:
    """Replace two numbers that change together."""
    one._numbers[one._at], other._numbers[other._at] = value, other_value  # noqa: SLF001 -- as above


class Counter:
    """Counts that only grow; with labels, one for each combination of their values."""

    def __init__(self, segment: Segment, name: str, words: str, labels: Sequence[str] = ()) -> None:
        self.name, self.words, self.label_names = name, words, tuple(labels)
        self._segment = segment
        self._children: dict[tuple[str, ...], Number] = {}
        if not labels:
            self.labels()

    def labels(self, *values: str) -> Number:
        """The number with these values of the labels."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = Number(self._segment, _name(self.name, values))
        return child

    def family(self, samples: Samples) -> Family:
        """What a scrape reads: the sum of all processes."""
        family = CounterMetricFamily(self.name, self.words, labels=self.label_names)
        for values, segments in samples.items():
            family.add_metric(values, sum(numbers[0] for numbers in segments))
        return family


class Gauge(Counter):
    """Numbers that rise and fall. A process begins at 0, whatever the one before it left there."""

    def __init__(
        self,
        segment: Segment,
        name: str,
        words: str,
        labels: Sequence[str] = (),
        together: Callable[[Iterable[float]], float] = sum,
    ) -> None:
        super().__init__(segment, name, words, labels)
        self._together = together
        for full_name, _ in segment.read():
            if json.loads(full_name)[0] == name:
                segment.numbers[segment.offset_of(full_name)] = 0

    def family(self, samples: Samples) -> Family:
        """What a scrape reads: those of all processes together. With labels, 0 says nothing and is left out."""
        family = GaugeMetricFamily(self.name, self.words, labels=self.label_names)
        for values, segments in samples.items():
            number = self._together(numbers[0] for numbers in segments)
            if number or not values:
                family.add_metric(values, number)
        return family


class Histogram:
    """Values counted in buckets; with labels, one distribution for each combination of their values."""

    def __init__(
        self, segment: Segment, name: str, words: str, bounds: Sequence[float], labels: Sequence[str] = ()
    ) -> None:
        self.name, self.words, self.label_names = name, words, tuple(labels)
        self._segment, self._bounds = segment, bounds
        self._children: dict[tuple[str, ...], Distribution] = {}
        self._exemplars: dict[tuple[str, ...], Exemplars] = {}
        if not labels:
            self.labels()

    def labels(self, *values: str) -> Distribution:
        """The distribution with these values of the labels."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = Distribution(self._segment, _name(self.name, values), self._bounds)
        return child

    def exemplify(self, values: tuple[str, ...], value: float, ident: SpanId) -> None:
        """A value that has been observed under these values of the labels is of this span."""
        own = self._exemplars.get(values)
        if own is None:
            name = _name(self.name + exemplars.SUFFIX, values)
            own = self._exemplars[values] = Exemplars(self._segment, name, len(self._bounds) + 1)
        own.set(bisect_left(self._bounds, value), value, ident)

    def family(self, samples: Samples, exemplified: Samples | None = None) -> Family:
        """What a scrape reads: the sum of all processes. `exemplified`: where their exemplars are."""
        family = HistogramMetricFamily(self.name, self.words, labels=self.label_names)
        names = [_bound(bound) for bound in (*self._bounds, math.inf)]
        for values, segments in samples.items():
            *counts, total = (sum(column) for column in zip(*segments, strict=True))
            rows = (exemplified or {}).get(values, ())
            buckets = [
                (name, count) if exemplar is None else (name, count, exemplar.told())
                for name, count, exemplar in zip(
                    names, accumulate(counts), exemplars.newest(rows, len(names)), strict=True
                )
            ]
            family.add_metric(values, buckets=buckets, sum_value=total)
        return family


def _bound(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _name(metric: str, labels: Sequence[str]) -> str:
    return json.dumps([metric, *labels])
