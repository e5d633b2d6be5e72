"""Clients that ask until a number of requests is sent, and what became of each. Knows neither pods nor manifests.

Each is httpx as it comes: it keeps connections, and sends nothing a second time.
"""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

import httpcore
import httpx
from httpcore._backends.auto import AutoBackend

_TIMEOUT_S = 30.0


@dataclass
class Ledger:
    """What became of the requests. `failures`: how many by their kind."""

    sent: int = 0
    answered: int = 0
    slowest_s: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    connections: int = 0


@dataclass(frozen=True)
class Question:
    """A picture and the label that is its answer."""

    picture: bytes
    media_type: str
    label: str


class ToService(AutoBackend):
    """Connects to whichever pod a node picks, and counts."""

    def __init__(self, pick: Callable[[], str], port: int, ledger: Ledger) -> None:
        super().__init__()
        self._pick, self._port, self._ledger = pick, port, ledger

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's own
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the Service."""
        del host, port
        self._ledger.connections += 1
        return await super().connect_tcp(self._pick(), self._port, timeout, local_address, socket_options)


class Crowd:
    """So many clients of three kinds: most ask again at once, some after a pause, some on a new connection each time.

    Together they send `requests`.
    """

    def __init__(self, pick: Callable[[], str], port: int, question: Question, requests: int, random: Random) -> None:
        self.ledger = Ledger()
        self._pick, self._port = pick, port
        self._question = question
        self._requests = requests
        self._random = random
        self._unused = ssl.create_default_context()  # httpx would make one for each client

    async def run(self, clients: int) -> None:
        """Until every request has been answered, or has failed."""
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                kind = number % 4
                group.create_task(self._ask(keeps=kind != 1, pause_s=2.0 if kind == 2 else 0.0))

    async def _ask(self, *, keeps: bool, pause_s: float) -> None:
        while self._left():
            async with self._client() as client:
                while self._left():
                    await asyncio.sleep(self._random.uniform(0, pause_s))
                    await self._ask_once(client)
                    if not keeps:
                        break

    def _left(self) -> bool:
        return self.ledger.sent < self._requests

    def _client(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(verify=self._unused)
        transport._pool = httpcore.AsyncConnectionPool(
            keepalive_expiry=60, network_backend=ToService(self._pick, self._port, self.ledger)
        )
        return httpx.AsyncClient(transport=transport, base_url="http://mixer", timeout=_TIMEOUT_S)

    async def _ask_once(self, client: httpx.AsyncClient) -> None:
        ledger, question = self.ledger, self._question
        ledger.sent += 1
        began = time.monotonic()
        try:
            answer = await client.post(
                "/classify", content=question.picture, headers={"Content-Type": question.media_type}
            )
        except httpx.HTTPError as error:
            ledger.failures[f"{type(error).__name__}: {error}"] += 1
            return
        ledger.slowest_s = max(ledger.slowest_s, time.monotonic() - began)
        if answer.status_code != 200:
            ledger.failures[f"{answer.status_code} {answer.json().get('code')}"] += 1
        elif answer.json()["predictions"][0]["label"] != question.label:
            ledger.failures["wrong answer"] += 1
        else:
            ledger.answered += 1
