"""Several classifiers of one process: gauges show their sum, counts may have their names."""

import time

import pytest

from app.system.shared_memory import SharedMemory
from app.telemetry.metrics import Metrics
from app.telemetry.model_metrics import AsideMetrics, MetricsByModel
from app.telemetry.model_totals import model_totals
from tests.app.fakes import WatchedMetrics


def test_queues_of_two_classifiers_add_up() -> None:
    metrics = WatchedMetrics()
    metrics_by_model = MetricsByModel(metrics)
    old, new = metrics_by_model.of("colours"), metrics_by_model.of("colours")
    old.depth(3, 5)
    new.depth(1, 2)
    assert (metrics.waiting, metrics.inside) == (4, 7)
    old.depth(0, 1)
    assert (metrics.waiting, metrics.inside) == (1, 3)
    new.depth(0, 0)
    old.depth(0, 0)
    assert (metrics.samples()["mixer_queue_depth"], metrics.samples()["mixer_in_flight"]) == (0, 0)


def test_whatever_is_counted_is_counted_once() -> None:
    metrics = WatchedMetrics()
    model_metrics = MetricsByModel(metrics).of("colours")
    model_metrics.ran(4)
    model_metrics.padded(2)
    model_metrics.dropped("queue", "deadline")
    model_metrics.rejected("queue_full", 3)
    model_metrics.classified("red", 0.9, {"decode": 0.1})
    model_metrics.lost("bad_picture", 2)
    samples = metrics.samples()
    assert samples["mixer_batch_size_sum"] == 4
    assert samples["mixer_padding_images_total"] == 2
    assert metrics.given_up == [("queue", "deadline")]
    assert samples['mixer_rejected_total{reason="queue_full"}'] == 3
    assert samples['mixer_images_total{outcome="classified"}'] == 1
    assert samples['mixer_images_total{outcome="bad_picture"}'] == 2
    assert samples['mixer_predictions_total{label="red"}'] == 1
    assert not [name for name in samples if name.startswith("mixer_model_")]


@pytest.mark.parametrize("several", [False, True])
def test_the_totals_of_one_model_are_those_of_all_processes(several: bool) -> None:
    memory = SharedMemory(2)
    workers = [Metrics(memory, number) for number in range(2)]
    names = ("a", "b") if several else ("a",)
    for at, metrics in enumerate(workers):
        by_model = MetricsByModel(metrics, several=several)
        for name in names:
            observed = by_model.of(name)
            observed.ran(2)
            observed.classified_request({"decode": 0.25, "queue": 0.5, "infer": 1.0})
            observed.classified("red", 0.9, {"decode": 0.25, "queue": 0.5, "infer": 1.0})
            observed.classified("red", 0.9, {"decode": 0.25, "queue": 0.5, "infer": 1.0})
            observed.lost("bad_picture", at + 1)
    for name in names:
        totals = model_totals(workers[0], name if several else None)
        assert (totals.classified, totals.failed, totals.requests, totals.runs) == (4, 3, 2, 2)
        assert totals.seconds == {"decode": 0.5, "queue": 1.0, "infer": 2.0}
        assert time.time() - 60 < totals.last_run <= time.time()
    nothing = model_totals(Metrics(), None)
    assert (nothing.classified, nothing.failed, nothing.runs, nothing.last_run) == (0, 0, 0, 0)


def test_of_several_the_names_are_counted_too() -> None:
    metrics = WatchedMetrics()
    metrics_by_model = MetricsByModel(metrics, several=True)
    metrics_by_model.of("a").classified("red", 0.9, {})
    metrics_by_model.of("b").classified("red", 0.9, {}, uncertain=True)
    metrics_by_model.of("b").lost("bad_picture", 2)
    samples = metrics.samples()
    assert samples['mixer_predictions_total{label="red"}'] == 2
    assert samples["mixer_uncertain_total"] == 1
    assert {name: value for name, value in samples.items() if name.startswith("mixer_model_")} == {
        'mixer_model_images_total{model="a",outcome="classified"}': 1,
        'mixer_model_images_total{model="b",outcome="classified"}': 1,
        'mixer_model_images_total{model="b",outcome="bad_picture"}': 2,
        'mixer_model_predictions_total{label="red",model="a"}': 1,
        'mixer_model_predictions_total{label="red",model="b"}': 1,
        'mixer_model_uncertain_total{model="b"}': 1,
    }


def test_nothing_of_a_model_aside_is_counted() -> None:
    metrics = WatchedMetrics()
    before = metrics.numbers()
    aside = AsideMetrics(MetricsByModel(metrics, several=True))
    aside.ran(4)
    aside.padded(2)
    aside.depth(3, 5)
    aside.dropped("decode", "deadline")
    aside.rejected("draining", 3)
    aside.classified("red", 0.9, {"decode": 0.1}, uncertain=True)
    aside.classified_request({"decode": 0.1})
    aside.lost("bad_picture", 2)
    assert metrics.numbers() == before
    assert (metrics.waiting, metrics.inside, metrics.given_up) == (0, 0, [])
