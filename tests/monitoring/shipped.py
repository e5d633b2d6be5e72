"""What deploy/ has for monitoring, taken apart: rules, expressions, and the metrics that they name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS, GRAFANA = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana"
RULE_FILES = ("recording.yml", "alerts.yml")
RATE_INTERVAL = "1m"


class Expression(NamedTuple):
    """An expression, and where it stands."""

    where: str
    text: str


def rules(file: str) -> list[dict[str, Any]]:
    """All rules of a file of rules."""
    groups = yaml.safe_load((PROMETHEUS / file).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return rules("alerts.yml")


def unit_tests() -> list[dict[str, Any]]:
    """The cases of all files of unit tests."""
    files = sorted((PROMETHEUS / "tests").glob("*.yml"))
    return [case for file in files for case in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]]


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GRAFANA / "mixer.json").read_text(encoding="utf-8"))
    return content


def panels() -> list[dict[str, Any]]:
    """Every panel that shows something, those in closed rows included."""
    listed = dashboard()["panels"]
    return [one for panel in listed for one in [panel, *panel.get("panels", [])] if one["type"] != "row"]


def dashboard_expressions() -> list[Expression]:
    """Those of all panels and marks, as Grafana has them: with variables."""
    found = [
        Expression(f"panel {panel['title']!r}", target["expr"]) for panel in panels() for target in panel["targets"]
    ]
    return found + [
        Expression(f"mark {one['name']!r}", one["target"]["expr"]) for one in dashboard()["annotations"]["list"]
    ]


def rule_expressions() -> list[Expression]:
    return [
        Expression(rule.get("alert") or rule["record"], rule["expr"]) for file in RULE_FILES for rule in rules(file)
    ]


def filled_in(expression: str, **chosen: str) -> str:
    """A dashboard's expression with a value for each variable; what is not chosen is all of them."""
    for variable in ("job", "instance", "model", "worker"):
        expression = expression.replace(f"${variable}", chosen.get(variable, ".*"))
    return expression.replace("$__rate_interval", RATE_INTERVAL)


def metrics_in(expression: str) -> set[str]:
    """The names of the metrics that an expression selects."""
    return {selector.name for selector in _selectors(promql_parser.parse(expression)) if selector.name}


def operands(expression: str) -> set[str]:
    """What an alert compares, joins or misses: an alert is silent, and these have to be there all the same."""
    return set(_operands(promql_parser.parse(expression)))


def _operands(node: Any) -> Iterator[str]:
    if isinstance(node, promql_parser.ParenExpr):
        yield from _operands(node.expr)
    elif isinstance(node, promql_parser.BinaryExpr) and str(node.op) in (
        "==",
        "!=",
        ">",
        "<",
        ">=",
        "<=",
        "and",
        "or",
        "unless",
    ):
        yield from _operands(node.lhs)
        yield from _operands(node.rhs)
    elif isinstance(node, promql_parser.Call) and node.func.name == "absent":
        yield from _operands(node.args[0])
    elif metrics_in(node.prettify()):
        yield node.prettify()


def _selectors(node: Any) -> Iterator[Any]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    elif isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, promql_parser.BinaryExpr):
        yield from _selectors(node.lhs)
        yield from _selectors(node.rhs)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from _selectors(argument)
    elif hasattr(node, "expr"):
        yield from _selectors(node.expr)
