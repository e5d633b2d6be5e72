"""What is counted of a model that is tried beside the one that answers. Knows nothing of models or pictures."""

from app.system.shared_memory import Segment
from app.telemetry.instruments import Counter, Gauge, Histogram

MOST_PAIRS = 256  # of labels that are counted apart, in a process; two lists of a thousand have a million
_OTHERS = "(others)"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DIFFERENCES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


class ShadowMetrics:
    """Counted in this process's segment; the names of both models are labels of nearly all."""

    def __init__(self, segment: Segment) -> None:
        both = ["model", "shadow"]
        self.images = Counter(
            segment,
            "mixer_shadow_images",
            "Pictures that the shadow was to run, too: its best label agreed, differed, it failed, or it had no time.",
            [*both, "outcome"],
        )
        self.disagreements = Counter(
            segment,
            "mixer_shadow_disagreements",
            "Pictures with another best label, by both; beyond the first 256 pairs of a process, (others).",
            [*both, "label", "shadow_label"],
        )
        self.uncertain = Counter(
            segment,
            "mixer_shadow_uncertain",
            "The same pictures, by which of both was uncertain; only where both models have a threshold.",
            [*both, "uncertain"],
        )
        self.difference = Histogram(
            segment,
            "mixer_shadow_probability_difference",
            "How far apart both probabilities of the answered label are.",
            _DIFFERENCES,
            both,
        )
        self.seconds = Histogram(
            segment,
            "mixer_shadow_infer_seconds",
            "How long the run took that such a picture was in, by who ran it: model or shadow.",
            _SECONDS,
            [*both, "role"],
        )
        self.info = Gauge(
            segment, "mixer_shadow_info", "1 for the shadow.", ["provider", "precision", "model", "version"], max
        )
        self.answering = Gauge(
            segment, "mixer_shadow_answering", "1 where the shadow answers its share of requests; of all processes.",
            ["shadow"], min,
        )  # fmt: skip
        self.stops = Counter(
            segment, "mixer_shadow_stops", "How often its answers were stopped, by reason.", ["shadow", "reason"]
        )
        self._pairs: set[tuple[str, ...]] = set()

    def disagreed(self, model: str, shadow: str, label: str, shadow_label: str) -> None:
        """Two models gave a picture these labels."""
        pair = (model, shadow, label, shadow_label)
        if pair not in self._pairs and len(self._pairs) >= MOST_PAIRS:
            pair = (model, shadow, _OTHERS, _OTHERS)
        else:
            self._pairs.add(pair)
        self.disagreements.labels(*pair).inc()
