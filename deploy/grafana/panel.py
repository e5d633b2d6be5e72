"""A panel and a row of the dashboard, as they are written down in rows.py. Knows nothing of Grafana but its words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """One panel. `queries`: expression -> legend; `limits`: values from which it turns yellow and red."""

    title: str
    description: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    limits: tuple[float, ...] = ()
    low_is_bad: bool = False
    stacked: bool = False
    most: float | None = None


@dataclass(frozen=True)
class Row:
    """A row. `closed`: what not every service has; it loads when it is opened."""

    title: str
    panels: tuple[Panel, ...]
    closed: bool = False
