"""Which pod gets a request. Knows of the pods what its endpoints say, which lag, and what it sees of its own requests.

A balancer of requests chooses for each of them, and tries another pod where one breaks off or drains. One of
connections chooses when a client connects; the client then stays where it is until that ends its connection.
"""

from collections import Counter
from collections.abc import Callable
from enum import Enum
from random import Random

from benchmarks.fleet.events import Events
from benchmarks.fleet.pod import Pod
from benchmarks.fleet.request import End, Request


class Policy(Enum):
    """How a pod is chosen."""

    ROUND_ROBIN = "round robin"
    LEAST_REQUESTS = "least requests"
    TWO_CHOICES = "two random choices"
    RANDOM = "random"
    CONNECTIONS = "connections"  # each client's stays where it is


class Balancer:
    """`tries`: pods that a request is sent to, where one breaks off or drains. `rest_s`: how long such a pod is left
    alone, 0 for a balancer that does not look. `half_way_s`: of the network. `clients`: of a balancer of connections.
    """

    def __init__(
        self,
        events: Events,
        policy: Policy,
        rng: Random,
        *,
        tries: int = 2,
        rest_s: float = 2.0,
        half_way_s: float = 0.0005,
        clients: int = 64,
    ) -> None:
        self._events, self.policy, self._rng = events, policy, rng
        self._tries, self._rest_s, self._half_way_s = tries, rest_s, half_way_s
        self._endpoints: list[Pod] = []
        self._rests_until: dict[Pod, float] = {}
        self._outstanding: Counter[Pod] = Counter()
        self._pinned: list[Pod | None] = [None] * clients
        self._turn = 0
        self.sent: Counter[str] = Counter()

    def know(self, endpoints: list[Pod]) -> None:
        """These are ready, as far as anybody has said."""
        self._endpoints = list(endpoints)

    def send(self, request: Request, then: Callable[[Request], object], tries: int = 0) -> None:
        """To a pod; `then` is told of the end, with what the last pod said."""
        pod, slot = self._chosen()
        if pod is None:
            request.heard = then
            request.finish(End.BROKEN, self._events.now)
            return
        request.heard = lambda ended: self._heard(ended, pod, slot, then, tries + 1)
        self._outstanding[pod] += 1
        self.sent[pod.name] += 1
        if pod.is_reachable or pod.is_lost:  # whoever asks a lost machine hears nothing
            self._events.after(self._half_way_s, pod.receive, request)
        else:
            self._events.after(self._half_way_s, self._refuse, request)

    def _refuse(self, request: Request) -> None:
        if request.end is None:
            request.finish(End.BROKEN, self._events.now)

    def _heard(
        self, request: Request, pod: Pod, slot: int | None, then: Callable[[Request], object], tries: int
    ) -> None:
        self._outstanding[pod] -= 1
        if request.end not in (End.BROKEN, End.DRAINING):
            if slot is not None and (pod.says_close or pod.is_draining):
                self._pinned[slot] = None  # Connection: close
            self._events.after(self._half_way_s, then, request)
            return
        self._rests_until[pod] = self._events.now + self._rest_s
        if slot is not None:
            self._pinned[slot] = None
        if tries < self._tries and self._events.now < request.deadline:
            self.send(_again(request), then, tries)
        else:
            self._events.after(self._half_way_s, then, request)

    def _chosen(self) -> tuple[Pod | None, int | None]:
        now = self._events.now
        open_to = [pod for pod in self._endpoints if self._rests_until.get(pod, 0.0) <= now] or self._endpoints
        if not open_to:
            return None, None
        if self.policy is Policy.CONNECTIONS:
            slot = self._rng.randrange(len(self._pinned))
            pod = self._pinned[slot]
            if pod is None or not pod.keeps_connections:
                pod = self._pinned[slot] = self._rng.choice(self._endpoints)
            return pod, slot
        return self._one_of(open_to), None

    def _one_of(self, pods: list[Pod]) -> Pod:
        if self.policy is Policy.ROUND_ROBIN:
            self._turn += 1
            return pods[self._turn % len(pods)]
        if self.policy is Policy.RANDOM:
            return self._rng.choice(pods)
        some = pods if self.policy is Policy.LEAST_REQUESTS else self._rng.sample(pods, min(2, len(pods)))
        least = min(self._outstanding[pod] for pod in some)
        return self._rng.choice([pod for pod in some if self._outstanding[pod] == least])


def _again(request: Request) -> Request:
    """The same for another pod."""
    again = Request(request.number, request.due, request.timeout_s, request.decode_s, request.heard)
    again.tries = request.tries + 1
    request.following = again
    return again
