"""Word that a client has gone: it ends the work, once, and nothing but the work."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from app.errors import ClientGone
from app.http.disconnect import Disconnect, announce, cancel_on_disconnect


def test_a_listener_is_told_once_whenever_it_begins_to_listen() -> None:
    told: list[str] = []
    disconnect = Disconnect()
    disconnect.set()  # nobody listens
    disconnect.on(lambda: told.append("late"))
    assert told == ["late"]
    disconnect = Disconnect()
    disconnect.on(lambda: told.append("early"))
    assert told == ["late"]
    disconnect.set()
    assert told == ["late", "early"]


def test_who_listens_no_more_is_not_told() -> None:
    told: list[str] = []
    disconnect = Disconnect()
    disconnect.on(lambda: told.append("told"))
    disconnect.on(None)
    disconnect.set()
    disconnect.on(None)
    assert (told, disconnect.is_set) == ([], True)


def test_a_request_has_one_whoever_asks() -> None:
    scope: dict[str, Any] = {}
    assert announce(scope) is announce(scope)
    assert announce({}) is not announce(scope)


class Client:
    """The receiving end of a request, where the connection has no means to tell of a hang-up."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.given_up = asyncio.Event()

    async def receive(self) -> Message:
        try:
            return await self.messages.get()
        except asyncio.CancelledError:
            self.given_up.set()
            raise


class Work:
    """Says how it went; ends when it is let."""

    def __init__(self) -> None:
        self.begun, self.may_end, self.cancelled = asyncio.Event(), asyncio.Event(), False

    async def __call__(self) -> str:
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "done"


async def never_asked() -> Message:
    raise AssertionError("The connection tells; nothing is to be received.")


async def test_work_for_a_client_that_stays_gives_its_result() -> None:
    scope: dict[str, Any] = {}
    disconnect, work = announce(scope), Work()
    work.may_end.set()
    assert await cancel_on_disconnect(scope, never_asked, work()) == "done"
    disconnect.set()  # too late to end anything
    await asyncio.sleep(0)


async def test_a_hang_up_ends_the_work_and_the_task_goes_on() -> None:
    scope: dict[str, Any] = {}
    disconnect, work = announce(scope), Work()

    async def serve() -> str:
        with pytest.raises(ClientGone):
            await cancel_on_disconnect(scope, never_asked, work())
        async with asyncio.timeout(60):  # would take a cancellation that is left over for its own
            await asyncio.sleep(0)
        return "counted"

    task = asyncio.create_task(serve())
    await work.begun.wait()
    disconnect.set()
    assert await task == "counted"
    assert (work.cancelled, task.cancelling()) == (True, 0)


async def test_a_client_that_has_gone_already_is_not_worked_for() -> None:
    scope: dict[str, Any] = {}
    announce(scope).set()
    work = Work()
    with pytest.raises(ClientGone):
        await cancel_on_disconnect(scope, never_asked, work())
    assert not work.may_end.is_set()


async def test_a_task_that_is_cancelled_for_another_reason_is_no_hang_up() -> None:
    scope: dict[str, Any] = {}
    announce(scope)
    work = Work()
    task = asyncio.create_task(cancel_on_disconnect(scope, never_asked, work()))
    await work.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.cancelled


async def test_an_error_of_the_work_is_its_own() -> None:
    async def failing() -> None:
        raise ZeroDivisionError

    scope: dict[str, Any] = {}
    disconnect = announce(scope)
    with pytest.raises(ZeroDivisionError):
        await cancel_on_disconnect(scope, never_asked, failing())
    disconnect.set()
    await asyncio.sleep(0)


# --- a server that does not tell ---


async def test_without_word_from_the_connection_the_last_message_is_waited_for() -> None:
    client, work = Client(), Work()
    task = asyncio.create_task(cancel_on_disconnect({}, client.receive, work()))
    await work.begun.wait()
    client.messages.put_nowait({"type": "http.request", "body": b"more", "more_body": False})
    client.messages.put_nowait({"type": "http.disconnect"})
    with pytest.raises(ClientGone):
        await task
    assert work.cancelled


@pytest.mark.parametrize("cancelled", [False, True])
async def test_and_no_longer_than_the_work_takes(cancelled: bool) -> None:
    client, work = Client(), Work()
    task = asyncio.create_task(cancel_on_disconnect({}, client.receive, work()))
    await work.begun.wait()
    if cancelled:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        work.may_end.set()
        assert await task == "done"
    assert client.given_up.is_set()
