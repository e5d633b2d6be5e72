"""Several that listen on one socket: each takes its share, and nobody waits for one that takes nothing."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.server import acceptor
from app.server.acceptor import Acceptor
from tests.app.fakes import Happenings
from tests.app.servers import PATIENCE_S


class Taker:
    """One of the processes: holds what its acceptor took."""

    def __init__(
        self, listener: Any, others: Callable[[], list[int]] = list, news: Happenings | None = None, **options: Any
    ) -> None:
        self.held: list[asyncio.BaseTransport] = []
        self.news = news or Happenings()
        self.acceptor = Acceptor(
            listener, lambda: Held(self), lambda: len(self.held), others, **{"context": None, **options}
        )

    async def holds(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.news.until(lambda: len(self.held) >= count)

    async def end(self) -> None:
        self.acceptor.close()
        await self.acceptor.wait_closed()
        for transport in self.held:
            transport.close()
        await asyncio.sleep(0)


class Held(asyncio.Protocol):
    """One connection."""

    def __init__(self, taker: Taker) -> None:
        self._taker = taker

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._taker.held.append(transport)
        self._taker.news.changed()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield listening


@pytest.fixture
def connect(listener: socket.socket) -> Iterator[Callable[[], socket.socket]]:
    """Connects a client, which stays."""
    clients: list[socket.socket] = []

    def connected() -> socket.socket:
        clients.append(socket.create_connection(listener.getsockname(), timeout=PATIENCE_S))
        return clients[-1]

    yield connected
    for client in clients:
        client.close()


Connect = Callable[[], socket.socket]


async def test_who_is_alone_takes_all_that_come(listener: socket.socket, connect: Connect) -> None:
    taker = Taker(listener)
    for _ in range(5):
        connect()
    await taker.holds(5)
    await taker.end()


async def test_who_leaves_all_to_others_takes_none_until_it_listens_again(
    listener: socket.socket, connect: Connect
) -> None:
    news, copy = Happenings(), listener.dup()
    leaving, other = Taker(listener, news=news), Taker(copy, news=news)
    leaving.acceptor.leave_to_others()
    for _ in range(5):
        connect()
    await other.holds(5)
    assert leaving.held == []
    other.acceptor.leave_to_others()
    leaving.acceptor.listen()
    connect()
    await leaving.holds(1)
    assert len(other.held) == 5
    for taker in (leaving, other):
        await taker.end()
    copy.close()


async def test_who_rests_when_it_leaves_all_to_others_does_not_wake_up(
    listener: socket.socket, connect: Connect
) -> None:
    taker = Taker(listener, lambda: [0])
    for _ in range(2):
        connect()
    await taker.holds(2)
    connect()
    async with asyncio.timeout(PATIENCE_S):
        while taker.acceptor._pause is None:  # noqa: ASYNC110 -- a few turns later
            await asyncio.sleep(0)
    taker.acceptor.leave_to_others()
    await asyncio.sleep(2 * acceptor._PATIENCE_S)  # it would have taken it before
    assert len(taker.held) == 2
    taker.acceptor.listen()
    await taker.holds(3)
    await taker.end()


@pytest.mark.parametrize("count", [2, 4])
async def test_each_takes_about_as_many(count: int, listener: socket.socket, connect: Connect) -> None:
    takers: list[Taker] = []
    news = Happenings()

    def others_than(index: int) -> Callable[[], list[int]]:
        return lambda: [len(taker.held) for number, taker in enumerate(takers) if number != index]

    copies = [listener.dup() for _ in range(count)]
    takers += [Taker(copy, others_than(index), news) for index, copy in enumerate(copies)]
    for number in range(1, 33):
        connect()
        async with asyncio.timeout(PATIENCE_S):
            await news.until(lambda: sum(len(taker.held) for taker in takers) == number)  # noqa: B023 -- awaited here
        held = [len(taker.held) for taker in takers]
        assert max(held) <= min(held) + 2, held
    assert sum(len(taker.held) for taker in takers) == 32
    for taker, copy in zip(takers, copies, strict=True):
        await taker.end()
        copy.close()


async def test_who_has_more_leaves_one_to_the_others_but_takes_it_where_nobody_does(
    listener: socket.socket, connect: Connect
) -> None:
    loop = asyncio.get_running_loop()
    taker = Taker(listener, lambda: [7, 0])  # and the one without any hangs
    for _ in range(2):
        connect()
    await taker.holds(2)
    before = loop.time()
    for _ in range(3):
        connect()
    await taker.holds(5)
    assert loop.time() - before >= 0.005
    await taker.end()


async def test_a_flood_is_taken_at_once_and_shared(connect: Connect, listener: socket.socket) -> None:
    before = [connect() for _ in range(100)]
    least = [33]
    turns = Turns()
    taker = Taker(listener, lambda: least)
    await taker.holds(36)  # two more than the least busy are no reason yet to leave one to it
    assert turns.end() <= 4
    least[0] = 1000
    await taker.holds(len(before))
    await taker.end()


class Turns:
    """Counts those of the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._next = self._loop.call_soon(self._pass)

    def end(self) -> int:
        self._next.cancel()
        return self._count

    def _pass(self) -> None:
        self._count += 1
        self._next = self._loop.call_soon(self._pass)


async def test_who_left_one_that_another_took_leaves_the_next_one_too(
    listener: socket.socket, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    taker = Taker(listener, lambda: [0])
    for _ in range(2):
        connect()
    await taker.holds(2)
    for patience_s in (0.1, 60):
        monkeypatch.setattr(acceptor, "_PATIENCE_S", patience_s)
        connect()
        await _later(loop, 0.03)
        listener.accept()[0].close()  # by the other, at last
        await _later(loop, 0.1)
    assert len(taker.held) == 2
    await taker.end()


async def test_what_somebody_else_took_meanwhile_is_nobodys_loss(listener: socket.socket, connect: Connect) -> None:
    taker = Taker(listener)
    taker.acceptor._take()  # there is nothing
    connect()
    await taker.holds(1)
    await taker.end()


class Failing:
    """A listening socket whose first connections cannot be taken."""

    def __init__(self, listener: socket.socket, *failures: OSError) -> None:
        self._listener = listener
        self._failures = list(failures)

    def accept(self) -> Any:
        if self._failures:
            raise self._failures.pop(0)
        return self._listener.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


async def test_a_client_that_has_gone_before_it_was_taken_is_no_error(
    listener: socket.socket, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    taker = Taker(Failing(listener, ConnectionAbortedError(), InterruptedError()))
    connect()
    await taker.holds(1)
    assert caplog.records == []
    await taker.end()


async def test_where_no_file_can_be_opened_it_says_so_and_tries_again_later(
    listener: socket.socket, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    taker = Taker(Failing(listener, OSError(errno.EMFILE, "Too many open files")))
    connect()
    before = loop.time()
    await taker.holds(1)
    assert loop.time() - before >= 0.1
    assert caplog.messages == ["a connection cannot be taken: Too many open files"]
    await taker.end()


@pytest.mark.parametrize("resting", [False, True])
async def test_who_is_closed_takes_no_more(resting: bool, listener: socket.socket, connect: Connect) -> None:
    loop = asyncio.get_running_loop()
    failures = [OSError(errno.EMFILE, "Too many open files")] if resting else []
    taker = Taker(Failing(listener, *failures))
    if resting:
        connect()
        await _later(loop, 0.02)
    taker.acceptor.close()
    connect()
    await _later(loop, 0.15)
    assert len(taker.held) == resting  # the one that had come before
    await taker.end()


async def _later(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    passed = asyncio.Event()
    loop.call_later(seconds, passed.set)
    await passed.wait()


async def test_whoever_has_come_is_taken_before_it_closes(listener: socket.socket, connect: Connect) -> None:
    taker = Taker(listener, others=lambda: [0])
    clients = [connect() for _ in range(5)]
    taker.acceptor.close()
    await taker.holds(len(clients))
    await taker.end()


async def test_a_connection_that_cannot_be_opened_is_closed_and_the_next_is_taken(
    listener: socket.socket, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate, so that no handshake succeeds
    with caplog.at_level(logging.INFO, "mixer.acceptor"):
        taker = Taker(listener, context=context)
        for _ in range(2):
            client = connect()
            client.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(client, b"GET / HTTP/1.1\r\nHost: service\r\n\r\n")
            async with asyncio.timeout(PATIENCE_S):
                while await _received(client):
                    continue
    assert len([words for words in caplog.messages if words.startswith("a connection was not opened: ")]) == 2
    assert taker.held == []
    await taker.end()


async def _received(client: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(client, 1000)
    except ConnectionResetError:
        return b""


async def test_those_that_are_being_opened_count_and_are_waited_for(listener: socket.socket, connect: Connect) -> None:
    least = [1]
    taker = Taker(listener, lambda: least)
    for _ in range(3):
        connect()
    taker.acceptor._take()
    taker.acceptor._take()
    taker.acceptor._take()  # none of them is open yet
    assert taker.held == []
    taker.acceptor._accept_or_yield()  # with three of its own it leaves the next to the other
    assert taker.acceptor._pause is not None
    taker.acceptor.close()
    await taker.acceptor.wait_closed()
    assert len(taker.held) == 3
    await taker.end()


async def test_where_the_service_is_full_no_handshake_begins_and_of_each_it_is_told_twice(
    listener: socket.socket, connect: Connect
) -> None:
    changes: list[int] = []
    taker = Taker(
        listener,
        context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        is_full=lambda: sum(changes) >= 2,
        on_opening=changes.append,
    )
    clients = [connect() for _ in range(3)]
    for client in clients:
        client.setblocking(False)
        taker.acceptor._take()
    assert changes == [1, 1]
    async with asyncio.timeout(PATIENCE_S):
        assert await _received(clients[2]) == b""  # closed at once
        for client in clients[:2]:
            client.close()
        await taker.acceptor.wait_closed()
        await asyncio.sleep(0)
    assert changes == [1, 1, -1, -1]
    await taker.end()


async def test_without_tls_nothing_is_opened_for_long_enough_to_count(
    listener: socket.socket, connect: Connect
) -> None:
    changes: list[int] = []
    taker = Taker(listener, is_full=lambda: True, on_opening=changes.append)
    connect()
    await taker.holds(1)
    assert changes == []
    await taker.end()
