"""Hang-ups on real sockets from which nothing is read."""

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest

from app.server.flow_control import HangupWatcher
from tests.app.servers import PATIENCE_S


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
        with ours, theirs:
            yield ours, theirs


async def told_of(hangup_watcher: HangupWatcher, ours: socket.socket) -> asyncio.Event:
    told = asyncio.Event()
    hangup_watcher.watch(ours.fileno(), told.set)
    await asyncio.sleep(0)
    return told


@pytest.mark.parametrize("how", ["reset", "closed", "half closed"])
async def test_whoever_goes_is_told_of_whatever_is_left_unread(
    how: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    hangup_watcher = HangupWatcher()
    theirs.sendall(b"a request, and another")
    told = await told_of(hangup_watcher, ours)
    assert not told.is_set()
    if how == "half closed":
        theirs.shutdown(socket.SHUT_WR)
    else:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", how == "reset", 0))
        theirs.close()
    async with asyncio.timeout(PATIENCE_S):
        await told.wait()
    hangup_watcher.forget(ours.fileno())  # once too often does no harm
    hangup_watcher.close()


async def test_who_had_gone_before_is_told_of_too(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    hangup_watcher = HangupWatcher()
    told = await told_of(hangup_watcher, ours)
    async with asyncio.timeout(PATIENCE_S):
        await told.wait()
    hangup_watcher.close()


async def test_one_that_is_forgotten_is_not_told_of_and_its_neighbour_is(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    hangup_watcher = HangupWatcher()
    other, others_peer = socket.socketpair()
    with other, others_peer:
        told = await told_of(hangup_watcher, ours)
        told_of_other = await told_of(hangup_watcher, other)
        hangup_watcher.forget(ours.fileno())
        theirs.close()
        others_peer.close()
        async with asyncio.timeout(PATIENCE_S):
            await told_of_other.wait()
        assert not told.is_set()
        hangup_watcher.close()


async def test_once_closed_it_watches_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    hangup_watcher = HangupWatcher()
    told = await told_of(hangup_watcher, ours)
    hangup_watcher.close()
    hangup_watcher.forget(ours.fileno())
    hangup_watcher.watch(ours.fileno(), told.set)
    hangup_watcher.forget(ours.fileno())
    theirs.close()
    await asyncio.sleep(0)
    assert not told.is_set()
