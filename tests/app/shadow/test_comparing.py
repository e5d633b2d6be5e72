"""Two models' answers about one picture, and what is counted of how they differ."""

import numpy as np
import pytest

from app.inference.scores import Scores, scores_of
from app.shadow.comparing import answer_of, count, sees_alike
from app.system.shared_memory import SharedMemory
from app.telemetry.instruments import Counter, Histogram
from app.telemetry.shadow_metrics import MOST_PAIRS, ShadowMetrics
from model.spec import Fit, ModelSpec
from tests.app.color_bundle import color_spec

SPEC = color_spec(canary=None)


def scores(*logits: float) -> Scores:
    return scores_of((np.array([logits], dtype=np.float32), None), 1.0)[0]


class Counts:
    """Shadow metrics, and what was counted with them."""

    def __init__(self) -> None:
        self.segment = SharedMemory().segment(0)
        self.metrics = ShadowMetrics(self.segment)

    def compare(self, model: Scores, shadow: Scores, spec: ModelSpec = SPEC, of: ModelSpec = SPEC) -> None:
        count(self.metrics, answer_of("old", of, model, 0.25), "new", spec, shadow, 0.5)

    def of(self, metric: Counter | Histogram) -> dict[tuple[str, ...], float]:
        """The values of a counter; of a histogram, the sums of what was observed."""
        samples = metric.family(_read(self.segment, metric.name)).samples
        kept = (sample for sample in samples if not sample.name.endswith(("_bucket", "_count")))
        return {tuple(sample.labels[name] for name in metric.label_names): sample.value for sample in kept}


def _read(segment: object, name: str) -> dict[tuple[str, ...], list[list[float]]]:
    import json  # noqa: PLC0415

    found: dict[tuple[str, ...], list[list[float]]] = {}
    for full_name, numbers in segment.read():  # type: ignore[attr-defined]
        metric, *values = json.loads(full_name)
        if metric == name:
            found.setdefault(tuple(values), []).append(numbers)
    return found


def test_the_same_best_label_agrees_whatever_its_probability_is() -> None:
    counts = Counts()
    counts.compare(scores(3, 0, 0), scores(2, 1, 0))
    assert counts.of(counts.metrics.images) == {("old", "new", "agree"): 1}
    assert counts.of(counts.metrics.disagreements) == {}
    seconds = counts.of(counts.metrics.seconds)
    assert seconds == {("old", "new", "model"): 0.25, ("old", "new", "shadow"): 0.5}
    apart = scores(3, 0, 0).probabilities[0] - scores(2, 1, 0).probabilities[0]
    assert counts.of(counts.metrics.difference) == {("old", "new"): pytest.approx(apart)}


def test_another_best_label_differs_and_both_are_named() -> None:
    counts = Counts()
    counts.compare(scores(3, 0, 0), scores(0, 0, 5))
    assert counts.of(counts.metrics.images) == {("old", "new", "differ"): 1}
    assert counts.of(counts.metrics.disagreements) == {("old", "new", "red", "blue"): 1}


def test_labels_are_compared_by_their_text_in_whatever_order_they_stand() -> None:
    counts = Counts()
    turned = color_spec(canary=None, labels=("blue", "green", "red"))
    counts.compare(scores(3, 0, 0), scores(0, 0, 3), turned)
    assert counts.of(counts.metrics.images) == {("old", "new", "agree"): 1}
    assert counts.of(counts.metrics.difference) == {("old", "new"): pytest.approx(0)}


def test_a_label_that_the_shadow_has_not_is_another_one_and_has_no_probability_there() -> None:
    counts = Counts()
    other = color_spec(canary=None, labels=("Red", "green", "blue"))
    counts.compare(scores(3, 0, 0), scores(3, 0, 0), other)
    assert counts.of(counts.metrics.disagreements) == {("old", "new", "red", "Red"): 1}
    assert counts.of(counts.metrics.difference) == {}


@pytest.mark.parametrize(
    ("model", "shadow", "uncertain"),
    [((9, 0, 0), (9, 0, 0), "none"), ((0, 0, 0), (9, 0, 0), "model"), ((9, 0, 0), (0, 0, 0), "shadow"),
     ((0, 0, 0), (0, 0, 0), "both")],
)  # fmt: skip
def test_who_is_uncertain_is_counted_by_each_models_own_threshold(
    model: tuple[float, ...], shadow: tuple[float, ...], uncertain: str
) -> None:
    counts, sure = Counts(), color_spec(canary=None, energy_threshold=5.0)
    counts.compare(scores(*model), scores(*shadow), sure, of=sure)
    assert counts.of(counts.metrics.uncertain) == {("old", "new", uncertain): 1}


def test_a_model_without_a_threshold_is_neither_sure_nor_not() -> None:
    counts = Counts()
    counts.compare(scores(0, 0, 0), scores(0, 0, 0), color_spec(canary=None, energy_threshold=5.0))
    assert counts.of(counts.metrics.uncertain) == {}


def test_pairs_of_labels_are_bounded_and_the_rest_is_counted_together() -> None:
    counts = Counts()
    for number in range(MOST_PAIRS + 3):
        counts.metrics.disagreed("old", "new", "red", str(number))
    counts.metrics.disagreed("old", "new", "red", "0")
    found = counts.of(counts.metrics.disagreements)
    assert len(found) == MOST_PAIRS + 1
    assert found["old", "new", "(others)", "(others)"] == 3
    assert found["old", "new", "red", "0"] == 2


@pytest.mark.parametrize(
    "changes",
    [{"image_size": 16}, {"patch_size": 2}, {"fit": Fit(mode="crop")}, {"interpolation": "bilinear"},
     {"fit": Fit(mode="stretch", background="dark")}],
)  # fmt: skip
def test_whatever_is_seen_otherwise_makes_other_patches(changes: dict[str, object]) -> None:
    assert sees_alike(SPEC, color_spec(version="another", temperature=2.0))
    assert not sees_alike(SPEC, color_spec(canary=None, **changes))
