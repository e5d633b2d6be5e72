"""rows.py as Grafana stores a dashboard. Run, it writes mixer.json, which Grafana loads; a test compares the two.

python deploy/grafana/dashboard.py
"""

import json
from pathlib import Path
from typing import Any

from panel import Panel, Row
from rows import ROWS

FILE = Path(__file__).parent / "mixer.json"
SCHEMA_VERSION = 41  # Grafana 11.6 and 12; later ones read it
SELECTED = 'job=~"$job", instance=~"$instance"'
RATE = "$__rate_interval"
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


def written(expression: str) -> str:
    """The expression as Grafana gets it."""
    return expression.replace("SELECTED", SELECTED).replace("RATE", RATE)


def targets(panel: Panel) -> list[Json]:
    """A panel's queries."""
    one = panel.kind in ("table", "stat", "bargauge")
    form = {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series")
    return [
        {
            "refId": chr(ord("A") + number),
            "datasource": DATASOURCE,
            "expr": written(expression),
            "legendFormat": legend,
            "format": form,
            "instant": one,
            "range": not one,
            "editorMode": "code",
        }
        for number, (expression, legend) in enumerate(panel.queries.items())
    ]


def thresholds(panel: Panel) -> Json:
    """Green below the limits; the other way round where low is what is bad."""
    colors = ("red", "orange", "green") if panel.low_is_bad else ("green", "orange", "red")
    values = panel.limits[1:] if panel.low_is_bad else panel.limits
    steps: list[Json] = [{"color": colors[0], "value": None}]
    steps += [{"color": color, "value": value} for color, value in zip(colors[1:], values, strict=False)]
    return {"mode": "absolute", "steps": steps}


def field_config(panel: Panel) -> Json:
    """Unit, limits and how lines are drawn."""
    defaults: Json = {"unit": panel.unit, "min": 0, "thresholds": thresholds(panel)}
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.kind == "timeseries":
        defaults["color"] = {"mode": "palette-classic"}
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
        }
    if panel.kind == "heatmap":
        return {"defaults": {"custom": {"scaleDistribution": {"type": "linear"}}}, "overrides": []}
    return {"defaults": defaults, "overrides": []}


def options(panel: Panel) -> Json:
    """How each kind of panel shows its numbers."""
    reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "timeseries":
        legend = {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["mean", "max"]}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind == "stat":
        return {"reduceOptions": reduced, "colorMode": "background", "graphMode": "area", "textMode": "value"}
    if panel.kind == "bargauge":
        return {"reduceOptions": reduced, "orientation": "horizontal", "displayMode": "basic", "showUnfilled": True}
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "reverse": False},
            "yAxis": {"unit": panel.unit, "axisPlacement": "left"},
            "legend": {"show": True},
            "tooltip": {"mode": "single", "yHistogram": True},
            "filterValues": {"le": 1e-9},
        }
    return {"showHeader": True, "cellHeight": "sm"}


def transformations(panel: Panel) -> list[Json]:
    """A table shows its labels, and neither the time nor the 1 of an info metric."""
    if panel.kind != "table":
        return []
    return [{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}, "renameByName": {}}}]


def built(panel: Panel, number: int, x: int, y: int) -> Json:
    """A panel as Grafana stores it."""
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "targets": targets(panel),
        "fieldConfig": field_config(panel),
        "options": options(panel),
        "transformations": transformations(panel),
    }


def laid_out(row: Row, first_id: int, y: int) -> tuple[list[Json], int]:
    """The panels of a row below its title, left to right, and where the next row begins."""
    panels, x, tallest = [], 0, 0
    for number, panel in enumerate(row.panels, first_id):
        if x + panel.width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        panels.append(built(panel, number, x, y))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return panels, y + tallest


def panels_of(rows: tuple[Row, ...]) -> list[Json]:
    """All rows, one below the other."""
    shown: list[Json] = []
    y, next_id = 0, 1
    for row in rows:
        heading = {
            "id": next_id,
            "type": "row",
            "title": row.title,
            "collapsed": row.closed,
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        inside, end = laid_out(row, next_id + 1, y + 1)
        next_id += 1 + len(inside)
        if row.closed:
            heading["panels"] = inside
            shown.append(heading)
            y += 1
        else:
            shown += [heading, *inside]
            y = end
    return shown


def variable(name: str, label: str, query: str) -> Json:
    """A variable with the values of a label; all of them at first."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> Json:
    """All of it."""
    datasource = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
    }
    of_job = 'job=~"$job"'
    models = "mixer_engine_info|mixer_model_images_total|mixer_drift_psi"
    variables = [
        datasource,
        variable("job", "Job", "label_values(mixer_ready, job)"),
        variable("instance", "Instance", f"label_values(mixer_ready{{{of_job}}}, instance)"),
        variable("model", "Model", f'label_values({{__name__=~"{models}", {of_job}}}, model)'),
        variable("worker", "Worker", f"label_values(mixer_worker_connections{{{of_job}}}, worker)"),
    ]
    return {
        "uid": "mixer-serve",
        "title": "mixer-serve",
        "description": "Image classification: traffic, latency, saturation, batches, quality, drift, workers, GPU.",
        "tags": ["mixer-serve", "inference"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": variables},
        "annotations": {"list": [restarts()]},
        "links": [],
        "panels": panels_of(ROWS),
    }


def restarts() -> Json:
    """A mark over all panels where a worker was replaced."""
    return {
        "name": "Worker restarts",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "target": {"refId": "Anno", "expr": written("increase(mixer_worker_restarts_total{SELECTED}[1m]) > 0")},
        "titleFormat": "{{instance}}: a worker was replaced",
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(dashboard(), indent=1) + "\n", encoding="utf-8")
