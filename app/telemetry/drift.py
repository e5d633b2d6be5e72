"""How far the last answers are from those to a model's held-out pictures. Knows nothing of pictures.

A process remembers its last answers, and now and then writes how many fell into each bin to the shared memory; a scrape
adds up the bins of all processes. So an answer costs one append, and a scrape knows nothing older than the windows.
"""

import json
from collections import deque
from collections.abc import Callable, Mapping

from prometheus_client.core import GaugeMetricFamily

from app.system.shared_memory import Segment
from app.telemetry.instruments import Samples
from model.reference import ENERGY_BINS, MOST_CLASS_BINS, PROBABILITY_BINS, Bins, Reference, stability_index

WINDOW = 1000  # answers of a model, in all processes together
LEAST = 200  # answers, below which chance alone would look like drift
_BINS = max(MOST_CLASS_BINS, PROBABILITY_BINS, ENERGY_BINS)  # whatever a reload brings, the numbers have room
_OF = tuple(Bins.model_fields)

Answer = tuple[int, float, float]  # index of the best label, its probability, energy


class Window:
    """The last answers of one classifier in one process, and what they are to be like."""

    def __init__(self, reference: Reference, processes: int = 1) -> None:
        self.reference = reference
        self.answers: deque[Answer] = deque(maxlen=max(1, WINDOW // processes))  # appended to without a call of ours

    def counted(self) -> Bins:
        """How many fell into each bin."""
        return self.reference.counted(tuple(self.answers))


class Drift:
    """The population stability index of each model's last answers; by itself a metric, as Gauge is.

    `windows`: tells those of this process by the models' names.
    """

    def __init__(self, segment: Segment, name: str, words: str) -> None:
        self.name, self._words, self._segment = name, words, segment
        self.windows: Callable[[], Mapping[str, Window]] = dict
        self._references: Mapping[str, Reference] = {}
        for full_name, _ in segment.read():  # of the process before this one
            if json.loads(full_name)[0] == name:
                self._set(full_name, ())

    def publish(self) -> None:
        """Write down what has been answered. A model that has gone counts no more."""
        windows = self.windows()
        for model in self._references.keys() - windows.keys():
            for of in _OF:
                self._set(self._full_name(model, of), ())
        self._references = {model: window.reference for model, window in windows.items()}
        for model, window in windows.items():
            counts = window.counted()
            for of in _OF:
                self._set(self._full_name(model, of), getattr(counts, of))

    def family(self, samples: Samples) -> GaugeMetricFamily:
        """What a scrape reads: an index for each model that has answered often enough."""
        family = GaugeMetricFamily(self.name, self._words, labels=("model", "of"))
        for (model, of), segments in samples.items():
            reference = self._references.get(model)
            counts = [sum(column) for column in zip(*segments, strict=True)]
            if reference is not None and sum(counts) >= LEAST:
                shares = getattr(reference.expected(), of)
                index = stability_index(counts[: len(shares)], shares, reference.num_pictures)
                family.add_metric((model, of), index)
        return family

    def _full_name(self, model: str, of: str) -> str:
        return json.dumps([self.name, model, of])

    def _set(self, full_name: str, values: tuple[float, ...]) -> None:
        at = self._segment.offset_of(full_name, _BINS)
        for place in range(_BINS):
            self._segment.numbers[at + place] = values[place] if place < len(values) else 0
