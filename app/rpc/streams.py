"""Streams of messages, each received in turn, and how those that are idle end. Knows nothing of what is in them."""

import asyncio
from collections.abc import AsyncIterator

from app.errors import BadRequest, DeadlinePassed, Draining


class Streams:
    """Where calls get their messages. At the end of the service nobody waits for another."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._idle: set[asyncio.Task[object]] = set()
        self._is_over = False

    async def only(self, messages: AsyncIterator[bytes]) -> bytes:
        """The one message of a call. Raises: DeadlinePassed, BadRequest."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await anext(messages)
        except TimeoutError:
            raise DeadlinePassed(f"The message did not arrive within {self._timeout_s:g} s.") from None
        except StopAsyncIteration:
            raise BadRequest("The call has no message; expected one.") from None

    async def next(self, messages: AsyncIterator[bytes]) -> bytes | None:
        """The next message of a stream, however long it takes; None at its end. Raises: Draining."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- calls are served by tasks
        if self._is_over:
            raise _draining()
        self._idle.add(task)
        try:
            return await anext(messages, None)
        except asyncio.CancelledError:
            if self._is_over and task.uncancel() == 0:
                raise _draining() from None
            raise
        finally:
            self._idle.discard(task)

    def end(self) -> None:
        """Closing time: streams that wait for a message end now, the others with their next answer."""
        self._is_over = True
        for task in self._idle:
            task.cancel()


def _draining() -> Draining:
    return Draining("The service is draining; expected a stream to another instance.")
