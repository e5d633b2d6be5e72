"""Sends requests of httpx and reads their answers, over connections that are used again. Knows nothing of retries.

httpx's pool looks at every connection for each request, several times, and asks the system about the idle ones: at 32
connections that takes longer than all the rest. Here each connection is a pool of its own, and the one that was used
last is taken first.
"""

import ssl
from collections.abc import Callable
from typing import Generic, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30)
_Transport = TypeVar("_Transport")


class _Idle(Generic[_Transport]):
    """Transports of which each is used by one at a time; a given one is used by all."""

    def __init__(self, given: _Transport | None, make: Callable[[], _Transport]) -> None:
        self._given, self._make = given, make
        self._idle: list[_Transport] = []
        self.all: list[_Transport] = [] if given is None else [given]

    def take(self) -> _Transport:
        """One that nobody uses."""
        if self._given is not None:
            return self._given
        try:
            return self._idle.pop()
        except IndexError:
            made = self._make()
            self.all.append(made)
            return made

    def give(self, transport: _Transport) -> None:
        """It is used no longer."""
        if self._given is None:
            self._idle.append(transport)


class Connections:
    """Connections to one service, for threads."""

    def __init__(self, address: str, transport: httpx.BaseTransport | None) -> None:
        proxy, context = proxy_of(address), _context(address)
        self._idle = _Idle(transport, lambda: httpx.HTTPTransport(verify=context, limits=_ONE, proxy=proxy))

    def send(self, request: httpx.Request) -> httpx.Response:
        """The whole answer. Raises httpx.TransportError."""
        transport = self._idle.take()
        try:
            answer = transport.handle_request(request)
            answer.request = request
            try:
                answer.read()
            finally:
                answer.close()
        finally:
            self._idle.give(transport)
        return answer

    def close(self) -> None:
        """Close all of them."""
        for transport in self._idle.all:
            transport.close()


class AsyncConnections:
    """Connections to one service, for one event loop."""

    def __init__(self, address: str, transport: httpx.AsyncBaseTransport | None) -> None:
        proxy, context = proxy_of(address), _context(address)
        self._idle = _Idle(transport, lambda: httpx.AsyncHTTPTransport(verify=context, limits=_ONE, proxy=proxy))

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The whole answer. Raises httpx.TransportError."""
        transport = self._idle.take()
        try:
            answer = await transport.handle_async_request(request)
            answer.request = request
            try:
                await answer.aread()
            finally:
                await answer.aclose()
        finally:
            self._idle.give(transport)
        return answer

    async def close(self) -> None:
        """Close all of them."""
        for transport in self._idle.all:
            await transport.aclose()


def proxy_of(address: str) -> str | None:
    """The proxy that the environment names for an address, as urllib reads it; None where it is asked directly."""
    parts = urlsplit(address)
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _context(address: str) -> ssl.SSLContext | bool:
    """One for all connections: making it takes longer than a request does. Plain HTTP needs none."""
    return httpx.create_ssl_context() if address.startswith("https:") else False
