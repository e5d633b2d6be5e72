"""Alerts and recordings: judged by promtool, each with a case on either side, a runbook, and metrics that exist."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.app.fakes import samples_of
from tests.monitoring.everything import page_of_everything
from tests.monitoring.shipped import (
    PROMETHEUS,
    ROOT,
    Expression,
    alerts,
    dashboard_expressions,
    filled_in,
    metrics_in,
    rule_expressions,
    rules,
    unit_tests,
)

TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.yml"))
OTHERS = {"up", "ALERTS"}  # Prometheus' own

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here: apt has prometheus")


def promtool(*arguments: str, given: bytes | None = None) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, input=given, capture_output=True, check=False)
    words = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, words
    return words


@needs_promtool
def test_the_configuration_and_the_rules_are_valid() -> None:
    assert "FAILED" not in promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint-fatal", "recording.yml", "alerts.yml")


@needs_promtool
@pytest.mark.heavy
@pytest.mark.timeout(240)
@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.stem)
def test_each_case_comes_out_as_it_says(file: Path) -> None:
    promtool("test", "rules", str(file))


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.stem)
def test_each_file_of_cases_evaluates_recordings_before_alerts(file: Path) -> None:
    """promtool takes groups in any order where the file names none."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    if "../alerts.yml" in content["rule_files"]:
        assert content["group_eval_order"] == groups("recording.yml") + groups("alerts.yml")


def groups(file: str) -> list[str]:
    content = yaml.safe_load((PROMETHEUS / file).read_text(encoding="utf-8"))
    return [group["name"] for group in content["groups"]]


@needs_promtool
def test_promtool_finds_nothing_to_say_about_the_metrics() -> None:
    assert promtool("check", "metrics", given=page_of_everything()) == ""


def cases_of(alert: str) -> Iterator[list[Any]]:
    for case in unit_tests():
        for expected in case.get("alert_rule_test", []):
            if expected["alertname"] == alert:
                yield expected["exp_alerts"]


@pytest.mark.parametrize("alert", [rule["alert"] for rule in alerts()])
def test_each_alert_has_a_case_where_it_fires_and_one_where_it_does_not(alert: str) -> None:
    outcomes = [bool(expected) for expected in cases_of(alert)]
    assert True in outcomes, f"{alert} fires in none of {outcomes}"
    assert False in outcomes, f"{alert} is quiet in none of {outcomes}"


@pytest.mark.parametrize("record", [rule["record"] for rule in rules("recording.yml")])
def test_each_recording_has_two_cases_with_values_of_their_own(record: str) -> None:
    values = [
        sample["value"]
        for case in unit_tests()
        for expected in case.get("promql_expr_test", [])
        if re.search(rf"{re.escape(record)}\b(?!_)", expected["expr"])
        for sample in expected["exp_samples"]
    ]
    assert len(values) >= 2, f"{record} has the values {values}; expected two cases"


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_each_alert_says_how_bad_it_is_what_was_found_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert "$value" in notes["description"] or "two minutes" in notes["description"]
    page, anchor = notes["runbook_url"].split("#")
    assert anchor == rule["alert"].lower()
    assert rule["alert"] in chapters(ROOT / page)


def chapters(page: Path) -> list[str]:
    return re.findall(r"^### (\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_each_chapter_of_the_runbooks_is_that_of_an_alert_in_their_order() -> None:
    assert chapters(ROOT / "docs" / "runbooks.md") == [rule["alert"] for rule in alerts()]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_each_chapter_says_what_to_do(rule: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    chapter = text.split(f"\n### {rule['alert']}\n")[1].split("\n##")[0]
    for part in ("**Means**", "**Look**", "**Do**", "**Ignore**"):
        assert part in chapter, f"{rule['alert']} has no {part}"
    named = set(re.findall(r"`(mixer_\w+)", chapter))
    known = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names()}
    assert named <= known, f"{named - known} do not exist"


def names() -> set[str]:
    """Every name that a scrape brings, and what is recorded."""
    scraped = {name.partition("{")[0] for name in samples_of(page_of_everything().decode())}
    return scraped | {rule["record"] for rule in rules("recording.yml")} | OTHERS


def test_each_expression_is_promql_over_metrics_that_exist() -> None:
    known = names()
    for expression in [*rule_expressions(), *dashboard_expressions()]:
        unknown = metrics_in(filled_in(expression.text)) - known
        assert not unknown, f"{expression.where} has {unknown}; expected a metric of the service"


def test_what_is_no_promql_is_seen() -> None:
    with pytest.raises(ValueError, match=r"."):
        metrics_in("rate(mixer_requests_total[5m)")
    assert metrics_in(Expression("", "sum(rate(a[5m])) / -b > 1 and absent(c)").text) == {"a", "b", "c"}
    assert isinstance(promql_parser.parse("a"), promql_parser.Expr)
