"""Sends requests of httpx and reads their answers, over connections that are used again. Knows nothing of retries.

httpx's pool looks at every connection for each request, several times, and asks the system about the idle ones: at 32
connections that takes longer than all the rest. Here each connection is a pool of its own, and the one that was used
last is taken first.
"""

import asyncio
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30)
_Transport = TypeVar("_Transport")


class _Idle(Generic[_Transport]):
    """Transports of which each is used by one at a time; a given one is used by all.

    owner: the process or the event loop that asks. No other may use its connections: after a fork two processes would
    read each other's answers.
    """

    def __init__(
        self,
        given: _Transport | None,
        make: Callable[[], _Transport],
        owner: Callable[[], object],
        owned_by: object = None,
    ) -> None:
        self._given, self._make, self._owner, self._owned_by = given, make, owner, owned_by
        self._idle: list[_Transport] = []
        self._is_closed = False

    def take(self) -> _Transport:
        """One that nobody uses. Raises httpx.LocalProtocolError once it is closed."""
        if self._is_closed:
            raise httpx.LocalProtocolError("the client is closed.")
        if self._given is not None:
            return self._given
        if self._owned_by != self._owner():
            self._idle, self._owned_by = [], self._owner()
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    def give(self, transport: _Transport) -> Iterator[_Transport]:
        """It is used no longer. Yields what is to be closed now."""
        if self._given is None and self._owned_by == self._owner():
            self._idle.append(transport)
        return self._drained() if self._is_closed else iter(())

    def close(self) -> Iterator[_Transport]:
        """Give no more. Yields what is to be closed now: those that are in use end with their answers."""
        self._is_closed = True
        return iter((self._given,)) if self._given is not None else self._drained()

    def _drained(self) -> Iterator[_Transport]:
        with suppress(IndexError):
            while True:
                yield self._idle.pop()


class Connections:
    """Connections to one service, for threads."""

    def __init__(self, address: str, transport: httpx.BaseTransport | None) -> None:
        proxy, context = proxy_of(address), _context(address)
        self._idle = _Idle(
            transport,
            lambda: httpx.HTTPTransport(verify=context, limits=_ONE, proxy=proxy),
            os.getpid,
            os.getpid(),
        )

    def send(self, request: httpx.Request) -> httpx.Response:
        """The whole answer. Raises httpx.RequestError."""
        transport = self._idle.take()
        try:
            answer = transport.handle_request(request)
            answer.request = request
            try:
                answer.read()
            finally:
                answer.close()
        finally:
            for unwanted in self._idle.give(transport):
                unwanted.close()
        return answer

    def close(self) -> None:
        """Close all of them, those in use when their answers are there: a thread may wait at one."""
        for transport in self._idle.close():
            transport.close()


class AsyncConnections:
    """Connections to one service, for one event loop at a time."""

    def __init__(self, address: str, transport: httpx.AsyncBaseTransport | None) -> None:
        proxy, context = proxy_of(address), _context(address)
        self._idle = _Idle(
            transport,
            lambda: httpx.AsyncHTTPTransport(verify=context, limits=_ONE, proxy=proxy),
            asyncio.get_running_loop,
        )

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The whole answer. Raises httpx.RequestError."""
        transport = self._idle.take()
        try:
            answer = await transport.handle_async_request(request)
            answer.request = request
            try:
                await answer.aread()
            finally:
                await answer.aclose()
        finally:
            for unwanted in self._idle.give(transport):
                await unwanted.aclose()
        return answer

    async def close(self) -> None:
        """Close all of them, those in use when their answers are there."""
        for transport in self._idle.close():
            await transport.aclose()


def proxy_of(address: str) -> str | None:
    """The proxy that the environment names for an address, as urllib reads it; None where it is asked directly."""
    parts = urlsplit(address)
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _context(address: str) -> ssl.SSLContext | bool:
    """One for all connections: making it takes longer than a request does. Plain HTTP needs none."""
    return httpx.create_ssl_context() if address.startswith("https:") else False
