"""The rules and the dashboard that the Prometheus operator and Grafana get are those of deploy/prometheus and grafana.

`python -m tests.kubernetes.test_monitoring` writes the PrometheusRule anew.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from benchmarks.rollout.manifest import MANIFESTS, ROOT
from tests.kubernetes.conftest import objects_of, only

SOURCES = [ROOT / "deploy" / "prometheus" / name for name in ("recording.yml", "alerts.yml")]
DASHBOARD = ROOT / "deploy" / "grafana" / "mixer.json"
RULE = MANIFESTS / "components" / "monitoring" / "prometheusrule.yaml"
HEADER = (
    "# Generated from deploy/prometheus by `python -m tests.kubernetes.test_monitoring`; a test holds them equal.\n"
)


def prometheus_rule() -> dict[str, Any]:
    """All groups of the rules' files as one object."""
    groups = [group for path in SOURCES for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    labels = {"app.kubernetes.io/name": "mixer-serve"}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "mixer", "labels": labels},
        "spec": {"groups": groups},
    }


def test_the_rules_are_those_of_prometheus() -> None:
    assert yaml.safe_load(RULE.read_text(encoding="utf-8")) == prometheus_rule()
    assert only(objects_of("overlays/monitoring"), "PrometheusRule") == prometheus_rule()


def test_alerts_choose_the_job_that_the_operator_names() -> None:
    """A ServiceMonitor's job is the name of its Service."""
    rules = [rule for group in prometheus_rule()["spec"]["groups"] for rule in group["rules"]]
    chosen = {rule["expr"] for rule in rules if "job=~" in rule["expr"]}
    assert all('job=~"mixer.*"' in expression for expression in chosen)
    assert only(objects_of("overlays/monitoring"), "Service", "mixer-admin")["metadata"]["name"].startswith("mixer")


def test_the_dashboard_is_a_configmap_that_grafana_looks_for() -> None:
    objects = objects_of("overlays/monitoring")
    (found,) = (one for one in objects if one["kind"] == "ConfigMap" and "mixer.json" in one["data"])
    assert found["metadata"]["labels"] == {"grafana_dashboard": "1"}
    text = found["data"]["mixer.json"]
    assert json.loads(text) == json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert len(text) < 200_000  # an annotation of `kubectl apply` holds 262,144 bytes


def write(path: Path = RULE) -> None:
    """The PrometheusRule as a file."""
    text = yaml.safe_dump(prometheus_rule(), sort_keys=False, width=110, allow_unicode=True)
    path.write_text(HEADER + text, encoding="utf-8")


if __name__ == "__main__":
    write()
