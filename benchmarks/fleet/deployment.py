"""Pods as Kubernetes keeps them: started, probed, rolled, replaced where they fail. Knows no traffic.

A pod that is deleted leaves the endpoints with a lag while its preStop hook sleeps, then has SIGTERM, tells its
clients for a while to connect anew, and is gone once it has drained. A process that crashes is started again in its
place. A machine that is lost is noticed late, and its pods are made elsewhere later still.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from benchmarks.fleet.events import Events
from benchmarks.fleet.parameters import Parameters
from benchmarks.fleet.pod import Pod

_LOOK_S = 0.2


@dataclass(frozen=True)
class Times:
    """Seconds, and limits of an update.

    `schedule_s`, `pull_s`: before a pod's process starts, which takes `ready_s`.
    `probe_s`: between two readiness probes. `lag_s`: until a balancer knows of a change. `pre_stop_s`: the hook's
    sleep. `delay_s`: MIXER_DRAIN_DELAY_S. `grace_s`: from the deletion to SIGKILL. `crash_s`: until a process that
    crashed is noticed. `lost_s`: until a machine counts as lost; `evicted_s`: from then on until its pods are made
    elsewhere. `watchdog_s`: of the service.
    """

    schedule_s: float = 1.0
    pull_s: float = 10.0
    probe_s: float = 5.0
    lag_s: float = 1.0
    pre_stop_s: float = 5.0
    delay_s: float = 5.0
    grace_s: float = 40.0
    crash_s: float = 1.0
    lost_s: float = 50.0
    evicted_s: float = 300.0
    watchdog_s: float = 30.0
    max_surge: int = 1
    max_unavailable: int = 0


class Deployment:
    """`tell`: told of the ready pods, with the lag. `replicas`: wanted."""

    def __init__(
        self,
        events: Events,
        parameters: Parameters,
        times: Times,
        replicas: int,
        tell: Callable[[list[Pod]], object],
        rng: Random,
    ) -> None:
        self._events, self._parameters, self._times, self._tell, self._rng = events, parameters, times, tell, rng
        self.replicas = replicas
        self._version = 0
        self._versions: dict[Pod, int] = {}
        self.starting: list[Pod] = []
        self.ready: list[Pod] = []
        self.leaving: list[Pod] = []
        self._numbers = 0
        self.pod_s = 0.0
        self._counted_at = 0.0
        for _ in range(replicas):
            self.ready.append(self._made())
        self._tell(self.ready)

    @property
    def pods(self) -> int:
        """Those that cost: starting, ready and leaving."""
        return len(self.starting) + len(self.ready) + len(self.leaving)

    def count(self) -> None:
        """Add what the pods have cost since the last time."""
        now = self._events.now
        self.pod_s += self.pods * (now - self._counted_at)
        self._counted_at = now

    # --- scaling and updates ---

    def scale(self, replicas: int) -> None:
        """So many from now on; the youngest go first."""
        self.replicas = replicas
        self._reconcile()

    def roll(self) -> None:
        """Replace every pod by one of a new version, within max_surge and max_unavailable."""
        self._version += 1
        self._reconcile()

    def _reconcile(self) -> None:
        self.count()
        old = [pod for pod in self.ready if self._versions[pod] != self._version]
        present = len(self.starting) + len(self.ready)
        most = self.replicas + (self._times.max_surge if old else 0)
        fresh = present - len(old)
        for _ in range(max(0, min(most - present, self.replicas - fresh))):
            self._start(self._times.schedule_s + self._times.pull_s)
        spare = len(self.ready) - (self.replicas - (self._times.max_unavailable if old else 0))
        if old:
            for pod in old[: max(0, spare)]:
                self._delete(pod)
        else:
            surplus = max(0, present - self.replicas)
            for pod in [*reversed(self.starting), *reversed(self.ready)][:surplus]:
                self._delete(pod)

    def _made(self) -> Pod:
        self._numbers += 1
        pod = Pod(self._events, self._parameters, self._rng, f"pod-{self._numbers}")
        self._versions[pod] = self._version
        return pod

    def _start(self, before_s: float) -> None:
        pod = self._made()
        self.starting.append(pod)
        probe_s = self._rng.random() * self._times.probe_s
        self._events.after(before_s + self._parameters.ready_s + probe_s, self._is_ready, pod)

    def _is_ready(self, pod: Pod) -> None:
        if pod in self.starting:
            self.starting.remove(pod)
            self.ready.append(pod)
            self._told_later()
            self._reconcile()

    def _told_later(self, lag_s: float | None = None) -> None:
        ready = list(self.ready)
        self._events.after(self._times.lag_s if lag_s is None else lag_s, self._tell, ready)

    def _delete(self, pod: Pod) -> None:
        if pod in self.starting:
            self.starting.remove(pod)
            return
        self.ready.remove(pod)
        self.leaving.append(pod)
        self._told_later()
        self._events.after(self._times.pre_stop_s, self._terminate, pod, self._events.now + self._times.grace_s)

    def _terminate(self, pod: Pod, kill_at: float) -> None:
        pod.begin_end()
        self._events.after(self._times.delay_s, self._drain, pod, kill_at)

    def _drain(self, pod: Pod, kill_at: float) -> None:
        pod.drain()
        self._await_end(pod, kill_at)

    def _await_end(self, pod: Pod, kill_at: float) -> None:
        if pod.is_drained() or self._events.now >= kill_at:
            self._events.after(self._parameters.drain_s, self._end, pod)
        else:
            self._events.after(_LOOK_S, self._await_end, pod, kill_at)

    def _end(self, pod: Pod) -> None:
        self.count()
        pod.die()
        self.leaving.remove(pod)
        self._reconcile()

    # --- failures ---

    def crash(self, number: int = 0) -> None:
        """A pod's processes die, and are started again in the same place, with the image there."""
        pod = self.ready[number]
        self.count()
        pod.die()
        self._events.after(self._times.crash_s, self._replace, pod, 0.0)

    def lose_node(self, number: int = 0) -> None:
        """A pod's machine is gone without a word."""
        pod = self.ready[number]
        pod.lose()
        self._events.after(self._times.lost_s, self._replace, pod, self._times.evicted_s)

    def slow_node(self, speed: float, number: int = 0) -> None:
        """A pod's machine is slower from now on."""
        self.ready[number].processors.run_at(speed)

    def hang_worker(self, number: int = 0) -> None:
        """A worker's event loop stands still, until the service's own watchdog replaces it."""
        pod = self.ready[number]
        pod.workers[0].hang()
        self._events.after(self._times.watchdog_s + self._parameters.ready_s, pod.replace, 0)

    def _replace(self, pod: Pod, after_s: float) -> None:
        if pod not in self.ready:
            return
        self.count()
        self.ready.remove(pod)
        self._told_later(0.0)
        before_s = after_s + (self._times.schedule_s + self._times.pull_s if after_s else 0.0)
        self._start(before_s)
