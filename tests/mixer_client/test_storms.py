"""What a client does to a service that has no room: requests sent for each image, and images lost. In virtual time."""

import asyncio
import math
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from mixer_client import AsyncClient, Client, Result, Retries
from tests.app.virtual_time import in_virtual_time, now
from tests.mixer_client.stand_in import busy, classified

pytestmark = pytest.mark.heavy

IMAGE = b"an image"


class Server:
    """Answers `per_s` images a second and has room for `capacity`; refuses all between `storm`, or is not there."""

    def __init__(
        self, *, per_s: float = 600.0, capacity: float = math.inf, storm: tuple[float, float] = (0, 0),
        told: float = 1, is_away: bool = False,
    ) -> None:  # fmt: skip
        self._step_s, self._capacity, self._storm, self._told, self._is_away = 1 / per_s, capacity, storm, told, is_away
        self._inside = 0
        self._free_at = 0.0
        self.sent = self.most_at_once = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        if self._storm[0] <= now() < self._storm[1]:
            await asyncio.sleep(0.001)
            if self._is_away:
                raise httpx.ConnectError("refused", request=request)
            return busy(self._told)
        if self._inside >= self._capacity:
            return busy(self._told)
        self._inside += 1
        self.most_at_once = max(self.most_at_once, self._inside)
        self._free_at = max(now(), self._free_at) + self._step_s
        await asyncio.sleep(self._free_at - now())
        self._inside -= 1
        return classified()


async def many(server: Server, count: int, concurrency: int = 32, timeout_s: float = 60.0) -> list[Result]:
    def images() -> Iterator[bytes]:
        yield from [IMAGE] * count

    async with AsyncClient(transport=httpx.MockTransport(server), clock=now, timeout_s=timeout_s) as client:
        return [result async for result in client.classify_many(images(), concurrency=concurrency)]


def lost(results: list[Result]) -> int:
    return sum(result.error is not None for result in results)


@pytest.mark.parametrize(("seconds", "concurrency"), [(1, 100), (5, 32), (20, 8)])
@in_virtual_time
async def test_a_service_that_refuses_all_for_a_while_gets_a_tenth_more_and_loses_nothing(
    seconds: int, concurrency: int
) -> None:
    server = Server(storm=(2, 2 + seconds))
    results = await many(server, 3000, concurrency)
    assert lost(results) == 0
    assert server.sent <= 1.1 * 3000


def test_so_does_one_that_is_asked_by_threads() -> None:
    """In real time: it refuses from the 400th request on, until the pauses have come to a second and a half.

    There are 50 tokens by then: for 32 that are under way, and for those that go first after each of seven pauses.
    """
    lock, sent, began = threading.Lock(), 0, time.monotonic() + 1e9

    def refusing(_: httpx.Request) -> httpx.Response:
        nonlocal sent, began
        with lock:
            sent += 1
            if sent == 400:
                began = time.monotonic()
            return busy(0.2) if 0 <= time.monotonic() - began < 1.5 else classified()

    with Client(transport=httpx.MockTransport(refusing), timeout_s=60) as client:
        results = list(client.classify_many([IMAGE] * 1000, concurrency=32))
    assert lost(results) == 0
    assert 1000 < sent <= 1.1 * 1000


@in_virtual_time
async def test_so_does_one_that_refuses_all_from_the_start() -> None:
    server = Server(storm=(0, 4))
    results = await many(server, 1000)
    assert lost(results) == 0
    assert server.sent <= 1.02 * 1000


@pytest.mark.parametrize("capacity", [2, 16])
@in_virtual_time
async def test_of_a_service_with_little_room_the_client_learns_how_much(capacity: int) -> None:
    server = Server(capacity=capacity)
    results = await many(server, 6000)
    assert lost(results) == 0
    assert server.sent <= 1.1 * 6000
    assert now() < 2 * 6000 / 600  # pauses and all


@in_virtual_time
async def test_a_service_that_never_has_room_gets_few_requests_and_every_image_its_error() -> None:
    server = Server(storm=(0, math.inf))
    results = await many(server, 500, timeout_s=5.0)
    assert lost(results) == 500
    assert {getattr(result.error, "code", None) for result in results} == {"queue_full"}
    assert server.sent <= 1.1 * 500 + 10


@in_virtual_time
async def test_a_service_that_is_away_for_a_while_loses_nothing_and_is_asked_by_one_at_a_time() -> None:
    server = Server(storm=(2, 12), is_away=True)
    results = await many(server, 3000)
    assert lost(results) == 0
    assert server.sent <= 3000 + 32 + 25  # connections that are refused, too


@in_virtual_time
async def test_single_calls_of_one_client_keep_the_budget_together() -> None:
    server = Server(storm=(0, math.inf), told=0.01)

    async def one(client: AsyncClient) -> None:
        with pytest.raises(Exception, match="queue_full"):
            await client.classify(IMAGE)

    async with AsyncClient(transport=httpx.MockTransport(server), clock=now) as client:
        for _ in range(50):
            await asyncio.gather(*(one(client) for _ in range(20)))
    assert server.sent <= 1.1 * 1000 + 10


@in_virtual_time
async def test_without_retries_each_is_sent_once() -> None:
    server = Server(storm=(0, math.inf), told=0.01)
    async with AsyncClient(transport=httpx.MockTransport(server), clock=now, retries=Retries(max_attempts=1)) as client:
        results = [result async for result in client.classify_many([IMAGE] * 100)]
    assert lost(results) == 100
    assert server.sent == 100
