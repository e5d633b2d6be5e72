"""What is asked of a fleet: which balancer, which autoscaler, what failures, updates and retries cost. No figures.

Pods have one CPU and one worker, but for the hundred nodes, which are the machine that was measured. The model is four
times as slow as the one that was measured. Loads are shares of what all pods together can do.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.fleet.autoscaler import Behavior, Settings
from benchmarks.fleet.balancer import Policy
from benchmarks.fleet.clients import Manner, burst, daily, steady
from benchmarks.fleet.cluster import Metric, Scaling, Scenario
from benchmarks.fleet.deployment import Times
from benchmarks.fleet.parameters import Parameters

_PATIENT = Manner(timeout_s=2.0)
_PLAIN = {"policy": Policy.CONNECTIONS, "tries": 1, "rest_s": 0.0}  # what a Service of Kubernetes does by itself


@dataclass(frozen=True)
class Experiment:
    """Scenarios that are compared. `begin`, `end`: the stretch that counts, in seconds. `since`: of recovery."""

    title: str
    scenarios: tuple[Scenario, ...]
    parameters: Parameters
    begin: float
    end: float
    since: float | None = None


def experiments(measured: Parameters) -> dict[str, Callable[[], Experiment]]:
    """By name."""
    model = larger(measured)
    small = replace(model, cpus=1, workers=1)
    return {
        "balancers": lambda: balancers(small),
        "burst": lambda: bursts(small),
        "day": lambda: day(small),
        "failures": lambda: failures(small),
        "updates": lambda: updates(small),
        "retries": lambda: retries(small),
        "hundred": lambda: hundred(model),
    }


def larger(measured: Parameters) -> Parameters:
    """The same service with a model whose runs take four times as long: fewer requests say the same."""
    return replace(measured, run_s=4 * measured.run_s, image_s=4 * measured.image_s)


def balancers(parameters: Parameters) -> Experiment:
    """Eight pods, one of which runs at half speed, at 0.7 of what they can do."""
    rate = 0.7 * 7.5 * parameters.capacity_s()
    scenarios = tuple(
        Scenario(f"{policy.value}", steady(rate), rate, 25.0, 8, policy, _PATIENT,
                 happens=((0.0, lambda deployment: deployment.slow_node(0.5)),))
        for policy in Policy
    )  # fmt: skip
    return Experiment("Balancers: eight pods, one at half speed, 0.7 of the capacity", scenarios, parameters, 5, 25)


def bursts(parameters: Parameters) -> Experiment:
    """Two pods half busy; for two minutes three times as many come."""
    rate = parameters.capacity_s()
    ways: dict[str, Scaling | None] = {
        "two pods, none more": None,
        "CPU 50 %": _scaling(cpu=0.5),
        "CPU 70 %": _scaling(cpu=0.7),
        "in flight, 4 a pod": _scaling(in_flight=4.0),
        "in flight, 16 a pod": _scaling(in_flight=16.0),
        "in flight, 4 a pod, mean of a minute": _scaling(in_flight=4.0, reads=4),
        "in flight, 4 a pod, down after 60 s": _scaling(in_flight=4.0, down_window_s=60.0),
        "CPU 70 % and in flight, 8 a pod": _scaling(cpu=0.7, in_flight=8.0),
        "CPU 70 % and in flight, 16 a pod": _scaling(cpu=0.7, in_flight=16.0),
    }
    scenarios = [
        Scenario(name, burst(rate, 3.0, 60.0, 180.0), 3 * rate, 420.0, 2, manner=_PATIENT, scaling=scaling)
        for name, scaling in ways.items()
    ]
    scenarios.append(replace(scenarios[0], name="six pods, none more", replicas=6))
    title = "A burst: three times as many calls from 60 s to 180 s"
    return Experiment(title, tuple(scenarios), parameters, 60, 180, since=60.0)


def _scaling(cpu: float = 0.0, in_flight: float = 0.0, down_window_s: float = 300.0, reads: int = 1) -> Scaling:
    """0: no such metric."""
    targets: list[tuple[Metric, float]] = [("cpu", cpu), ("in flight", in_flight)]
    settings = Settings(least=2, most=20, behavior=Behavior(down_window_s=down_window_s))
    return Scaling(settings, tuple((metric, target) for metric, target in targets if target), reads=reads)


def day(parameters: Parameters) -> Experiment:
    """A day in twenty minutes: from a tenth of the mean to nearly twice as much."""
    rate = 1.5 * parameters.capacity_s()
    ways: dict[str, tuple[int, Scaling | None]] = {
        "four pods": (4, None),
        "two pods": (2, None),
        "CPU 70 %": (2, _scaling(cpu=0.7)),
        "in flight, 4 a pod": (2, _scaling(in_flight=4.0)),
        "in flight, 4 a pod, mean of a minute": (2, _scaling(in_flight=4.0, reads=4)),
        "CPU 70 % and in flight, 8 a pod": (2, _scaling(cpu=0.7, in_flight=8.0)),
        "CPU 70 % and in flight, 16 a pod": (2, _scaling(cpu=0.7, in_flight=16.0)),
    }
    scenarios = tuple(
        Scenario(name, daily(rate, 0.9, 1200.0), 1.9 * rate, 1200.0, replicas, manner=_PATIENT, scaling=scaling)
        for name, (replicas, scaling) in ways.items()
    )
    return Experiment("A wave: 0.15 to 2.85 times what a pod can do, in 20 minutes", scenarios, parameters, 0, 1200)


def failures(parameters: Parameters) -> Experiment:
    """Four pods at 0.6 of what they can do, one of which fails after 20 s."""
    rate = 0.6 * 4 * parameters.capacity_s()
    kinds = {
        "a pod crashes": lambda deployment: deployment.crash(),
        "a node is lost": lambda deployment: deployment.lose_node(),
        "a node at 0.3 of its speed": lambda deployment: deployment.slow_node(0.3),
        "a worker hangs": lambda deployment: deployment.hang_worker(),
    }
    base = Scenario("", steady(rate), rate, 120.0, 4, manner=_PATIENT)
    scenarios = [
        replace(base, name=f"{name}, {way}", happens=((20.0, happens),), **options)
        for name, happens in kinds.items()
        for way, options in (("balanced by request", {}), ("by connection", _PLAIN))
    ]
    return Experiment("Failures: four pods at 0.6 of the capacity", tuple(scenarios), parameters, 20, 120, since=20.0)


def updates(parameters: Parameters) -> Experiment:
    """Four pods at 0.6 of what they can do are all replaced."""
    rate = 0.6 * 4 * parameters.capacity_s()
    ways = {
        "one more, none less, preStop 5 s, delay 5 s": Times(),
        "one more, none less, preStop 5 s, no delay": Times(delay_s=0.0),
        "one more, none less, neither": Times(pre_stop_s=0.0, delay_s=0.0),
        "none more, one less, preStop 5 s, delay 5 s": Times(max_surge=0, max_unavailable=1),
        "four more, none less, preStop 5 s, delay 5 s": Times(max_surge=4),
    }
    base = Scenario("", steady(rate), rate, 180.0, 4, manner=_PATIENT, happens=((20.0, lambda one: one.roll()),))
    scenarios = [
        replace(base, name=f"{name}, {way}", times=times, **options)
        for name, times in ways.items()
        for way, options in (("balanced by request", {}), ("by connection", _PLAIN))
    ]
    return Experiment("Rolling updates: four pods at 0.6 of the capacity", tuple(scenarios), parameters, 20, 180)


def retries(parameters: Parameters) -> Experiment:
    """Four pods at 0.6; for 30 s three times as many come, and come again as they think right."""
    rate = 0.6 * 4 * parameters.capacity_s()
    manners = {
        "no second try": Manner(2.0),
        "five tries, 0.1 s apart": Manner(2.0, tries=5, pause_s=0.1),
        "five tries, 1 s apart": Manner(2.0, tries=5, pause_s=1.0),
        "five tries, as Retry-After says": Manner(2.0, tries=5, listens=True),
    }
    scenarios = tuple(
        Scenario(name, burst(rate, 3.0, 20.0, 50.0), 3 * rate, 110.0, 4, manner=manner)
        for name, manner in manners.items()
    )
    title = "Retries: four pods at 0.6, and at 1.8 of the capacity from 20 s to 50 s"
    return Experiment(title, scenarios, parameters, 20, 50, since=50.0)


def hundred(parameters: Parameters) -> Experiment:
    """A hundred of the machines that were measured, at 0.7 of what they can do."""
    rate = 0.7 * 100 * parameters.capacity_s()

    def lose_ten(deployment) -> None:  # type: ignore[no-untyped-def]
        for number in range(10):
            deployment.lose_node(number)

    base = Scenario("", steady(rate), rate, 8.0, 100, manner=_PATIENT, clients=2000)
    scenarios = (
        replace(base, name="least requests"),
        replace(base, name="two random choices", policy=Policy.TWO_CHOICES),
        replace(base, name="random", policy=Policy.RANDOM),
        replace(base, name="two random choices, ten nodes lost after 3 s", policy=Policy.TWO_CHOICES,
                happens=((3.0, lose_ten),)),
    )  # fmt: skip
    return Experiment("A hundred nodes at 0.7 of the capacity", scenarios, parameters, 2, 8)
