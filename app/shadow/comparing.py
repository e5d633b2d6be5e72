"""Two models' answers about one picture, and what is counted of how they differ. Runs nothing.

Labels are compared by their text: two models may have other classes, or the same ones in another order.
"""

from typing import NamedTuple

from app.inference.scores import Scores
from app.telemetry.shadow_metrics import ShadowMetrics
from model.spec import ModelSpec

_PREPROCESSING = ("image_size", "patch_size", "channels", "fit", "interpolation")


class Answer(NamedTuple):
    """What one model says of a picture: the index of its best label, its probability, and the energy of all.

    Small, unlike the scores, which are views of those of a batch. infer_s: how long the run took.
    """

    name: str
    spec: ModelSpec
    best: int
    probability: float
    energy: float
    infer_s: float

    @property
    def label(self) -> str:
        """The most probable one."""
        return self.spec.labels[self.best]


def answer_of(name: str, spec: ModelSpec, scores: Scores, infer_s: float) -> Answer:
    """What is compared of a picture's scores."""
    index = int(scores.order[0])
    return Answer(name, spec, index, float(scores.probabilities[index]), scores.energy, infer_s)


def sees_alike(one: ModelSpec, other: ModelSpec) -> bool:
    """Whether both models are given the very same patches of a picture."""
    return all(getattr(one, field) == getattr(other, field) for field in _PREPROCESSING)


def count(metrics: ShadowMetrics, model: Answer, name: str, spec: ModelSpec, scores: Scores, infer_s: float) -> None:
    """Count how an answer and what the shadow `name` says of the same picture differ."""
    shadow = answer_of(name, spec, scores, infer_s)
    both = model.name, shadow.name
    agree = model.label == shadow.label
    metrics.images.labels(*both, "agree" if agree else "differ").inc()
    if not agree:
        metrics.disagreed(*both, model.label, shadow.label)
    index = _index_of(spec, model)
    if index is not None:
        metrics.difference.labels(*both).observe(abs(model.probability - float(scores.probabilities[index])))
    metrics.seconds.labels(*both, "model").observe(model.infer_s)
    metrics.seconds.labels(*both, "shadow").observe(shadow.infer_s)
    uncertain = _uncertain(model, shadow)
    if uncertain is not None:
        metrics.uncertain.labels(*both, uncertain).inc()


def _index_of(spec: ModelSpec, answer: Answer) -> int | None:
    """Where this model has the label of an answer, mostly at the same place; None where it has no such label."""
    if answer.best < spec.num_classes and spec.labels[answer.best] == answer.label:
        return answer.best
    return spec.labels.index(answer.label) if answer.label in spec.labels else None


def _uncertain(model: Answer, shadow: Answer) -> str | None:
    """Which of both is uncertain: none, model, shadow or both; None where one of them never says."""
    thresholds = model.spec.energy_threshold, shadow.spec.energy_threshold
    if thresholds[0] is None or thresholds[1] is None:
        return None
    names = {(False, False): "none", (True, False): "model", (False, True): "shadow", (True, True): "both"}
    return names[model.energy < thresholds[0], shadow.energy < thresholds[1]]
