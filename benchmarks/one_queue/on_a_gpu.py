"""Do front ends, decoders and one owner of a GPU reach 5,000 images/s on 16 cores? Measured hops, and a simulation.

    python -m benchmarks.one_queue.on_a_gpu [--http-ms T] [--decode-ms T] [--front-ends N] [--decoders N]

The hop from a front end to another process and back is measured here, with pictures of 71 KB that lie in shared memory.
What HTTP, decoding and a run take are given: by default the measured ones of docs/scale.md (Zen 4, 500x375 JPEG), and a
null engine in a GPU's place. A closed loop of clients asks; whoever has nothing to do takes the next, first come, first
served. What a stage takes varies (a gamma distribution, deviation 0.3 of the mean).
"""

import argparse
import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import median

from benchmarks.fleet.events import Events
from benchmarks.one_queue.engines import Engines

_PICTURE = os.urandom(71_000)
_SPREAD = 0.3


@dataclass(frozen=True)
class Stages:
    """Counts, and milliseconds of a core: HTTP and a hop, decoding and a hop, and what the owner of the device does.

    `run_ms` + n * `image_ms`: a run of n pictures on the device, `most` of them at most; it has two at once.
    """

    front_ends: int
    decoders: int
    http_ms: float
    hop_ms: float
    decode_ms: float
    owner_ms: float
    run_ms: float
    image_ms: float
    most: int


def measured_hop_ms(repeats: int = 2000) -> float:
    """There and back, one picture at a time, over the clock: what both processes do about it."""
    engines = Engines(1, 1, 64, lambda: lambda pictures: [None] * len(pictures), shares_out=False)

    async def ask() -> float:
        found = []
        for _ in range(repeats):
            began = time.perf_counter()
            await engines.run([_PICTURE])
            found.append(time.perf_counter() - began)
        return 1000 * median(found)

    try:
        return asyncio.run(ask())
    finally:
        engines.close()


class Station:
    """So many who each do one thing after the other, from one queue."""

    def __init__(self, events: Events, rng: Random, count: int, ms: float) -> None:
        self._events, self._rng, self._free, self._ms = events, rng, count, ms
        self._queue: deque[Callable[[], object]] = deque()
        self.busy_ms = 0.0

    def take(self, then: Callable[[], object]) -> None:
        """Do it once more, and go on with `then`."""
        self._queue.append(then)
        self._next()

    def _next(self) -> None:
        while self._free and self._queue:
            self._free -= 1
            shape = 1 / _SPREAD**2
            ms = self._ms * self._rng.gammavariate(shape, 1 / shape)
            self.busy_ms += ms
            self._events.after(ms / 1000, self._done, self._queue.popleft())

    def _done(self, then: Callable[[], object]) -> None:
        self._free += 1
        then()
        self._next()


def simulated(stages: Stages, clients: int, seconds: float, seed: int = 0) -> tuple[float, float, dict[str, float]]:
    """Images a second, their median in ms, and how busy each stage was."""
    events, rng = Events(), Random(seed)
    front = Station(events, rng, stages.front_ends, stages.http_ms + stages.hop_ms)
    decoders = Station(events, rng, stages.decoders, stages.decode_ms + stages.hop_ms)
    owner = Station(events, rng, 1, stages.owner_ms)
    waiting: deque[float] = deque()
    took: list[float] = []
    device = {"free": 2, "busy_ms": 0.0}
    lead_in_s = 1.0

    def ask() -> None:
        began = events.now
        front.take(lambda: decoders.take(lambda: owner.take(lambda: wait(began))))

    def wait(began: float) -> None:
        waiting.append(began)
        run()

    def run() -> None:
        if device["free"] and waiting:
            batch = [waiting.popleft() for _ in range(min(len(waiting), stages.most))]
            ms = 2 * (stages.run_ms + stages.image_ms * len(batch))  # two share the device
            device["free"] -= 1
            device["busy_ms"] += ms / 2
            events.after(ms / 1000, ran, batch)

    def ran(batch: list[float]) -> None:
        device["free"] += 1
        for began in batch:
            if events.now > lead_in_s:
                took.append(events.now - began)
            ask()
        run()

    for _ in range(clients):
        ask()
    events.run(lead_in_s + seconds)
    whole_ms = 1000 * (lead_in_s + seconds)
    busy = {
        "front ends": front.busy_ms / whole_ms / stages.front_ends,
        "decoders": decoders.busy_ms / whole_ms / stages.decoders,
        "owner": owner.busy_ms / whole_ms, "device": device["busy_ms"] / whole_ms,
    }  # fmt: skip
    return len(took) / seconds, 1000 * median(took), busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front-ends", type=int, default=2)
    parser.add_argument("--decoders", type=int, default=14)
    parser.add_argument("--http-ms", type=float, default=0.17)
    parser.add_argument("--decode-ms", type=float, default=2.4)
    parser.add_argument("--owner-ms", type=float, default=0.06, help="a picture's patches into a batch, its answer out")
    parser.add_argument("--run-ms", type=float, default=0.5)
    parser.add_argument("--image-ms", type=float, default=0.1)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=5.0)
    asked = parser.parse_args()
    hop_ms = measured_hop_ms()
    print(f"a hop there and back: {1000 * hop_ms:.0f} us here")
    stages = Stages(
        asked.front_ends, asked.decoders, asked.http_ms, hop_ms / 2, asked.decode_ms, asked.owner_ms, asked.run_ms,
        asked.image_ms, most=64,
    )  # fmt: skip
    rate_s, p50_ms, busy = simulated(stages, asked.clients, asked.seconds)
    words = ", ".join(f"{name} {share:.0%}" for name, share in busy.items())
    print(f"{rate_s:.0f} images/s with {asked.clients} clients, p50 {p50_ms:.0f} ms; busy: {words}")


if __name__ == "__main__":
    main()
