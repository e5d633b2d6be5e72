"""A whole: clients, a balancer, a deployment, an autoscaler, and what happens to them when. Knows no tables."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from benchmarks.fleet import autoscaler
from benchmarks.fleet.balancer import Balancer, Policy
from benchmarks.fleet.clients import Clients, Manner, Rate
from benchmarks.fleet.deployment import Deployment, Times
from benchmarks.fleet.events import Events
from benchmarks.fleet.ledger import Ledger
from benchmarks.fleet.parameters import Parameters
from benchmarks.fleet.pod import Pod

Metric = Literal["cpu", "in flight"]


@dataclass(frozen=True)
class Scaling:
    """An autoscaler and the targets of its metrics; the one that wants the most pods decides.

    `scrape_s`: how old a metric may be, as it is read every so often. `reads`: of what is in flight, so many are
    averaged.
    """

    settings: autoscaler.Settings
    targets: tuple[tuple[Metric, float], ...]
    scrape_s: float = 15.0
    reads: int = 1


@dataclass(frozen=True)
class Scenario:
    """What is simulated. `rate`: calls a second over time, `most` at most. `happens`: when, and what to the pods."""

    name: str
    rate: Rate
    most: float
    seconds: float
    replicas: int
    policy: Policy = Policy.LEAST_REQUESTS
    manner: Manner = field(default_factory=Manner)
    times: Times = field(default_factory=Times)
    scaling: Scaling | None = None
    happens: tuple[tuple[float, Callable[[Deployment], object]], ...] = ()
    clients: int = 64
    tries: int = 2
    rest_s: float = 2.0


@dataclass
class Outcome:
    """All calls, pods over time (a second each), and what the pods cost in all."""

    scenario: Scenario
    ledger: Ledger
    pods: list[int]
    pod_hours: float
    balancer: Balancer


def simulate(scenario: Scenario, parameters: Parameters, seed: int = 0) -> Outcome:
    """The same every time for one seed."""
    events, rng = Events(), Random(seed)
    balancer = Balancer(
        events, scenario.policy, Random(rng.random()), tries=scenario.tries, rest_s=scenario.rest_s,
        clients=scenario.clients,
    )  # fmt: skip
    deployment = Deployment(events, parameters, scenario.times, scenario.replicas, balancer.know, Random(rng.random()))
    ledger = Ledger(scenario.manner.timeout_s)
    clients = Clients(events, balancer, ledger, scenario.manner, parameters.decode_s, Random(rng.random()))
    clients.come(scenario.rate, scenario.most, scenario.seconds)
    for when, what in scenario.happens:
        events.at(when, what, deployment)
    pods: list[int] = []
    events.every(1.0, lambda: pods.append(deployment.pods))
    if scenario.scaling is not None:
        _Scaler(events, deployment, scenario.scaling)
    events.run(scenario.seconds)
    deployment.count()
    pod_hours = deployment.pod_s / 3600
    events.run(scenario.seconds + scenario.manner.tries * (scenario.manner.timeout_s + 70.0))
    return Outcome(scenario, ledger, pods[: int(scenario.seconds)], pod_hours, balancer)


class _Scaler:
    """Reads the metric at every scrape, and decides at every sync by what was read last."""

    def __init__(self, events: Events, deployment: Deployment, scaling: Scaling) -> None:
        self._events, self._deployment, self._scaling = events, deployment, scaling
        self._autoscaler = autoscaler.Autoscaler(scaling.settings)
        self._busy: dict[Pod, float] = {}
        self._in_flight: deque[float] = deque(maxlen=scaling.reads)
        self._read: dict[Metric, list[float]] = {}
        events.after(scaling.scrape_s / 2, events.every, scaling.scrape_s, self._scrape)
        events.after(scaling.settings.sync_s, events.every, scaling.settings.sync_s, self._sync)

    def _scrape(self) -> None:
        busy = {pod: pod.processors.busy_s for pod in self._deployment.ready}
        span = self._scaling.scrape_s
        self._read["cpu"] = [(now - self._busy.get(pod, 0.0)) / span / pod.processors.cpus for pod, now in busy.items()]
        self._in_flight.append(float(sum(pod.inside for pod in busy)))
        self._read["in flight"] = [sum(self._in_flight) / len(self._in_flight)]
        self._busy = busy

    def _sync(self) -> None:
        if not self._read:
            return
        current = self._deployment.replicas
        wanted = max(self._wanted(metric, target, current) for metric, target in self._scaling.targets)
        decided = self._autoscaler.decide(self._events.now, current, wanted)
        if decided != current:
            self._deployment.scale(decided)

    def _wanted(self, metric: Metric, target: float, current: int) -> int:
        settings, read = self._scaling.settings, self._read[metric]
        if metric == "cpu":
            return autoscaler.by_pods(settings, target, read[:current], max(0, current - len(read)))
        return autoscaler.by_total(settings, target, sum(read), current)
