"""What autoscalers ask Prometheus: expressions that parse, over metrics and labels that the service has."""

import re
from typing import get_args

import promql_parser
import pytest
import yaml

from app.system.worker_status import Shared
from app.telemetry.metrics import Metrics
from benchmarks.rollout.manifest import MANIFESTS
from tests.kubernetes.conftest import Objects, container_of, objects_of, only

ADAPTER_RULES = MANIFESTS / "components" / "hpa" / "adapter-rules.yaml"


def keda_queries() -> list[str]:
    triggers = only(objects_of("overlays/keda"), "ScaledObject")["spec"]["triggers"]
    return [trigger["metadata"]["query"] for trigger in triggers if trigger["type"] == "prometheus"]


def adapter_queries() -> dict[str, str]:
    """The queries as prometheus-adapter fills them in, by the name of their metric."""
    rules = yaml.safe_load(ADAPTER_RULES.read_text(encoding="utf-8"))["rules"]
    parts = {"<<.Series>>": "", "<<.LabelMatchers>>": 'namespace="mixer",pod=~"a|b"', "<<.GroupBy>>": "pod"}
    filled = {}
    for rule in rules:
        text, series = rule["metricsQuery"], rule["seriesQuery"].partition("{")[0]
        for part, value in parts.items():
            text = text.replace(part, value or series)
        assert re.fullmatch(rule["name"]["matches"], series)
        filled[rule["name"]["as"]] = text
    return filled


def selectors(query: str) -> list[tuple[str, dict[str, str]]]:
    """Each metric in a query, and the labels that it is chosen by."""
    promql_parser.parse(query)
    found = re.findall(r"(mixer_\w+)\{([^}]*)\}", query)
    return [(name, dict(re.findall(r'(\w+)(?:=~|!=|=)"([^"]*)"', labels))) for name, labels in found]


def expect_known(query: str) -> None:
    samples = {sample for family in Metrics().families() for sample in (f"{family.name}_total", f"{family.name}_sum")}
    samples |= {family.name for family in (*Metrics().families(), *Metrics().of_workers.collect())}
    of_prometheus = {"namespace", "pod", "job"}
    labels = {"mixer_rejected_total": {"reason"}, "mixer_in_use": {"of"}}
    assert selectors(query)
    for name, chosen in selectors(query):
        assert name in samples
        assert set(chosen) - of_prometheus <= labels.get(name, set())


@pytest.mark.parametrize("number", range(2))
def test_keda_asks_for_what_there_is(number: int) -> None:
    expect_known(keda_queries()[number])


def test_the_adapter_asks_for_what_there_is() -> None:
    for query in adapter_queries().values():
        expect_known(query)


def test_the_adapter_tells_every_metric_that_the_autoscaler_wants() -> None:
    metrics = only(objects_of("overlays/hpa"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert {one["pods"]["metric"]["name"] for one in metrics if one["type"] == "Pods"} == set(adapter_queries())


def test_what_waits_behind_all_others_makes_no_pods() -> None:
    """Explanations and streams are taken off the pictures inside, by the name that the metric has for them."""
    assert "background" in get_args(Shared)
    for query in (keda_queries()[0], adapter_queries()["mixer_pictures_inside"]):
        (inside, _), (behind, chosen) = selectors(query)
        assert (inside, behind, chosen["of"]) == ("mixer_in_flight", "mixer_in_use", "background")
        assert re.search(r"\) - sum", query)


def test_both_scale_on_cpu_and_on_pictures_by_the_same_numbers() -> None:
    """docs/scale.md has why: CPU at 70 %, and 16 pictures inside for each CPU of a pod."""
    cpu, inside, _ = only(objects_of("overlays/hpa"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    by_cpu, by_pictures, _ = only(objects_of("overlays/keda"), "ScaledObject")["spec"]["triggers"]
    assert (by_cpu["type"], by_cpu["metricType"], by_cpu["metadata"]["value"]) == ("cpu", "Utilization", "70")
    assert cpu["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    cpus = int(container_of(objects_of("overlays/keda"))["resources"]["requests"]["cpu"])
    assert by_pictures["metadata"]["threshold"] == inside["pods"]["target"]["averageValue"] == str(16 * cpus)


def test_a_pod_that_stops_does_not_count_as_one_that_is_full() -> None:
    for query in (*keda_queries(), *adapter_queries().values()):
        for name, labels in selectors(query):
            assert name != "mixer_rejected_total" or labels["reason"] == "draining"


@pytest.mark.parametrize("overlay", ["hpa", "keda", "monitoring"])
def test_prometheus_finds_the_pods_by_the_service_for_operators(overlay: str) -> None:
    objects: Objects = objects_of(f"overlays/{overlay}")
    monitor = only(objects, "ServiceMonitor")["spec"]
    service = only(objects, "Service", "mixer-admin")
    assert monitor["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert {one["port"] for one in monitor["endpoints"]} <= {port["name"] for port in service["spec"]["ports"]}
    assert service["spec"]["publishNotReadyAddresses"] is True  # else nobody sees why a pod is not ready
