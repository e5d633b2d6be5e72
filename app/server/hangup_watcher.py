"""Clients that hang up while nothing is read from them. Knows nothing of HTTP.

An event loop hears of a hang-up by reading to the end, and reads no further where a client has sent more than it wants.
The system tells of it all the same, whatever is left unread.
"""

import asyncio
import select
from collections.abc import Callable


class Departures:
    """Those of one event loop, with one file of the system for all of them."""

    def __init__(self) -> None:
        self._listeners: dict[int, Callable[[], object]] = {}
        self._epoll = select.epoll()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._tell)

    def watch(self, file: int, listener: Callable[[], object]) -> None:
        """Call `listener` once when the other end of this socket sends no more, or is gone."""
        if not self._epoll.closed:
            self._listeners[file] = listener
            self._epoll.register(file, select.EPOLLRDHUP)  # an error and the end of both directions are told unasked

    def forget(self, file: int) -> None:
        """Watch it no longer; before it is closed, as another may then get its number."""
        if self._listeners.pop(file, None) is not None:
            self._epoll.unregister(file)

    def close(self) -> None:
        """Watch nothing any more."""
        self._listeners.clear()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _tell(self) -> None:
        for file, _ in self._epoll.poll(0):
            listener = self._listeners[file]
            self.forget(file)
            listener()
