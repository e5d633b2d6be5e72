"""How Kubernetes scales: the algorithm of the HorizontalPodAutoscaler, which KEDA drives, too. Knows no pods.

As its documentation says: a ratio of metric and target with a tolerance, pods that are not ready counted with caution,
the highest wish of the last five minutes before it scales down, and a limit on how fast it may go.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Policy:
    """At most so many pods, or so many percent, in a period. 0: no such limit."""

    period_s: float = 15.0
    pods: int = 0
    percent: float = 0.0


@dataclass(frozen=True)
class Behavior:
    """What is said under behavior.scaleUp and scaleDown; the defaults are Kubernetes'."""

    up: tuple[Policy, ...] = (Policy(pods=4), Policy(percent=100.0))
    down: tuple[Policy, ...] = (Policy(percent=100.0),)
    up_window_s: float = 0.0
    down_window_s: float = 300.0


@dataclass(frozen=True)
class Settings:
    """An autoscaler."""

    least: int
    most: int
    sync_s: float = 15.0
    tolerance: float = 0.1
    behavior: Behavior = field(default_factory=Behavior)


def by_pods(settings: Settings, target: float, ready: Sequence[float], unready: int = 0) -> int:
    """Wanted replicas by a metric that each ready pod has; those that are not ready yet count as idle, if at all.

    `target`: of the metric, for each pod.
    """
    current = len(ready) + unready
    if not ready:
        return current
    ratio = sum(ready) / len(ready) / target
    if not unready or ratio <= 1:
        return _rounded(settings, ratio, len(ready), current)
    cautious = sum(ready) / current / target
    if cautious <= 1:
        return current  # what is starting will do
    return _rounded(settings, cautious, current, current)


def by_total(settings: Settings, target: float, total: float, current: int) -> int:
    """Wanted replicas by one number for all of them, as an external metric with an average value."""
    if not current:
        return current
    ratio = total / (target * current)
    return _rounded(settings, ratio, current, current)


def _rounded(settings: Settings, ratio: float, counted: int, current: int) -> int:
    if abs(ratio - 1) <= settings.tolerance + 1e-9:
        return current
    return math.ceil(ratio * counted - 1e-9)


class Autoscaler:
    """Remembers what it wished and what it did."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._wishes: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def decide(self, now: float, current: int, wanted: int) -> int:
        """Replicas from now on, where the metric asks for `wanted`."""
        wanted = self._stabilized(now, current, wanted)
        wanted = min(max(wanted, self.settings.least), self.settings.most)
        if wanted > current:
            wanted = min(wanted, self._most_up(now, current))
        elif wanted < current:
            wanted = max(wanted, self._least_down(now, current))
        if wanted != current:
            self._changes.append((now, wanted - current))
        return wanted

    def _stabilized(self, now: float, current: int, wanted: int) -> int:
        behavior = self.settings.behavior
        self._wishes.append((now, wanted))
        while self._wishes[0][0] < now - max(behavior.up_window_s, behavior.down_window_s):
            self._wishes.popleft()
        up = min(wish for at, wish in self._wishes if at >= now - behavior.up_window_s)
        down = max(wish for at, wish in self._wishes if at >= now - behavior.down_window_s)
        return up if up > current else down if down < current else current

    def _most_up(self, now: float, current: int) -> int:
        most = 0
        for policy in self.settings.behavior.up:
            before = current - sum(change for at, change in self._recent(now, policy) if change > 0)
            most = max(most, before + policy.pods, math.ceil(before * (1 + policy.percent / 100)))
        return most

    def _least_down(self, now: float, current: int) -> int:
        least = current
        for policy in self.settings.behavior.down:
            before = current - sum(change for at, change in self._recent(now, policy) if change < 0)
            by_pods = before - policy.pods if policy.pods else current
            by_percent = math.floor(before * (1 - policy.percent / 100)) if policy.percent else current
            least = min(least, by_pods, by_percent)
        return least

    def _recent(self, now: float, policy: Policy) -> list[tuple[float, int]]:
        while self._changes and self._changes[0][0] <= now - 1800:
            self._changes.popleft()
        return [(at, change) for at, change in self._changes if at > now - policy.period_s]
