"""The dashboard: what the table says, what Grafana's own types read, and nothing that needs a plugin."""

import json
import runpy
import sys
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models import dashboard as grafana

from tests.monitoring.shipped import GRAFANA, ROOT, dashboard, metrics_in, panels

BUILT_IN = {"timeseries", "stat", "heatmap", "table", "bargauge"}
UNITS = {"short", "s", "reqps", "ops", "percentunit", "bytes", "celsius", "watt"}
ROWS = [
    "Overview", "Traffic", "Latency by stage", "Saturation", "Batches", "Quality", "Drift", "Workers", "Shadow", "GPU",
]  # fmt: skip


def test_the_file_is_what_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GRAFANA))
    built = runpy.run_path(str(GRAFANA / "dashboard.py"))["dashboard"]()
    for name in ("rows", "panel"):
        sys.modules.pop(name, None)
    assert built == dashboard(), "run python deploy/grafana/dashboard.py"


def test_grafanas_own_types_read_all_of_it() -> None:
    content = dashboard()
    read = grafana.Dashboard.from_json(content)
    assert (read.title, read.uid, read.schema_version) == ("mixer-serve", "mixer-serve", content["schemaVersion"])
    again = json.loads(json.dumps(read, default=lambda one: one.to_json()))
    assert [one["title"] for one in again["panels"]] == [one["title"] for one in content["panels"]]
    assert sum(len(one.get("panels", [])) for one in again["panels"]) == sum(
        len(one.get("panels", [])) for one in content["panels"]
    )
    assert [one["name"] for one in again["templating"]["list"]] == [
        "datasource", "job", "instance", "model", "worker",
    ]  # fmt: skip


def test_the_rows_are_those_that_operators_look_for() -> None:
    assert [one["title"] for one in dashboard()["panels"] if one["type"] == "row"] == ROWS


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_each_panel_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["type"] in BUILT_IN
    assert len(panel["description"].split()) > 3
    assert panel["description"].endswith(".")
    unit = panel["options"]["yAxis"]["unit"] if panel["type"] == "heatmap" else panel["fieldConfig"]["defaults"]["unit"]
    assert unit in UNITS
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert 'job=~"$job"' in target["expr"] or "ALERTS" in target["expr"]


def test_no_two_panels_have_the_same_number_or_place() -> None:
    numbers = [one["id"] for one in _all()]
    assert len(numbers) == len(set(numbers))
    for one, other in combinations(dashboard()["panels"], 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), f"{one['title']} is behind {other['title']}"
    assert all(one["gridPos"]["x"] + one["gridPos"]["w"] <= 24 for one in _all())


def test_variables_ask_for_labels_of_metrics_that_exist() -> None:
    queries = [one["query"]["query"] for one in dashboard()["templating"]["list"] if one["type"] == "query"]
    selected = [query.removeprefix("label_values(").rpartition(",")[0] for query in queries]
    assert [metrics_in(one.replace("$job", ".*")) for one in selected] == [
        {"mixer_ready"}, {"mixer_ready"}, set(), {"mixer_worker_connections"},
    ]  # fmt: skip


def test_grafana_is_told_where_prometheus_and_the_dashboard_are() -> None:
    provisioning = GRAFANA / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "mixer.yml").read_text(encoding="utf-8"))["providers"]
    grafana_service = _services()["grafana"]
    mounted = [volume.split(":")[1] for volume in grafana_service["volumes"]]
    assert f"{provider['options']['path']}/mixer.json" in mounted
    assert "/etc/grafana/provisioning" in mounted
    assert source["url"] == "http://prometheus:9090"
    home = grafana_service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in mounted


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_both_are_contained_pinned_started_by_a_profile_and_seen_from_this_machine_alone(name: str) -> None:
    service = _services()[name]
    assert service["profiles"] == ["monitoring"]
    assert not service["image"].rpartition("}")[0].endswith("latest")
    assert all(port.startswith("${") and ":-127.0.0.1:" in port for port in service["ports"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert {"mem_limit", "pids_limit", "healthcheck"} <= set(service)
    assert all(volume.endswith(":ro") for volume in service["volumes"] if volume.startswith("./"))


def test_nobody_may_change_anything_in_grafana_and_there_is_no_password_to_guess() -> None:
    variables = _services()["grafana"]["environment"]
    assert variables["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert variables["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert not any("PASSWORD" in name for name in variables)


def _services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    return services


def _all() -> Iterator[dict[str, Any]]:
    for panel in dashboard()["panels"]:
        yield panel
        yield from panel.get("panels", [])


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[length] and other[start] < one[start] + one[length]
        for start, length in (("x", "w"), ("y", "h"))
    )
