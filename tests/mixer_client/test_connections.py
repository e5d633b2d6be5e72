"""Connections over real sockets: used again, broken, and through a proxy."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mixer_client import AsyncClient, Client, ConnectFailed, Retries
from mixer_client.connections import proxy_of
from tests.app.servers import ROOT, free_port, read_until
from tests.mixer_client.stand_in import classified

AT_ONCE = Retries(jitter=lambda low, high: 0.0)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
BODY = classified().content
ANSWER = HEAD % len(BODY) + BODY
Script = Callable[[int, socket.socket], None]


@contextmanager
def served(script: Script) -> Iterator[tuple[str, list[int]]]:
    """A server that does with its connections, one after the other, as the script says; their numbers."""
    accepted: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    accepted.append(len(accepted))
                    connection.settimeout(30)
                    script(accepted[-1], connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}", accepted
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)


def answer_all(connection: socket.socket) -> None:
    while True:
        head = read_until(connection, b"\r\n\r\n")
        if b"\r\n\r\n" not in head:
            return
        connection.sendall(ANSWER)


async def ask(kind: type[Client | AsyncClient], address: str, times: int = 1, **options: object) -> list[str]:
    """The labels of so many images of no bytes, one after the other."""
    asked = {"retries": AT_ONCE, "timeout_s": 60, **options}
    if kind is Client:
        with Client(address, **asked) as client:  # type: ignore[arg-type]
            return [client.classify(b"").label for _ in range(times)]
    async with AsyncClient(address, **asked) as client:  # type: ignore[arg-type]
        return [(await client.classify(b"")).label for _ in range(times)]


both = pytest.mark.parametrize("kind", [Client, AsyncClient])


@both
async def test_a_connection_is_used_again(kind: type[Client | AsyncClient]) -> None:
    with served(lambda _, connection: answer_all(connection)) as (address, accepted):
        assert await ask(kind, address, 5) == ["red"] * 5
        assert accepted == [0]


@both
@pytest.mark.parametrize("sent", [b"", ANSWER[:20], ANSWER[:-5]], ids=["nothing", "half a head", "half a body"])
async def test_an_answer_that_breaks_off_is_asked_for_again(sent: bytes, kind: type[Client | AsyncClient]) -> None:
    def breaking(number: int, connection: socket.socket) -> None:
        if number < 2:
            read_until(connection, b"\r\n\r\n")
            connection.sendall(sent)
            return
        answer_all(connection)

    with served(breaking) as (address, accepted):
        assert await ask(kind, address) == ["red"]
        assert accepted == [0, 1, 2]


@both
async def test_a_connection_that_ended_while_nobody_asked_is_not_noticed(kind: type[Client | AsyncClient]) -> None:
    def once(_: int, connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(ANSWER)

    with served(once) as (address, accepted):
        assert await ask(kind, address, 4) == ["red"] * 4
        assert accepted == [0, 1, 2, 3]


@both
async def test_where_nobody_listens_it_asks_until_the_deadline(kind: type[Client | AsyncClient]) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectFailed, match=f"^{address} does not answer: "):
        await ask(kind, address, timeout_s=2, retries=Retries(jitter=lambda low, high: high))


@both
async def test_a_proxy_of_the_environment_is_asked(
    kind: type[Client | AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noting(_: int, connection: socket.socket) -> None:
        asked.append(read_until(connection, b"\r\n").split(b"\r\n")[0])
        connection.sendall(ANSWER)

    with served(noting) as (address, _):
        monkeypatch.setenv("http_proxy", address)
        assert await ask(kind, "http://service.example:8000") == ["red"]
    assert asked[0] == b"POST http://service.example:8000/classify HTTP/1.1"


def test_no_proxy_is_asked_for_what_is_exempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert proxy_of("http://127.0.0.1:8000") is None
    assert proxy_of("http://elsewhere:8000") == "http://proxy:3128"
    assert proxy_of("https://elsewhere:8000") is None
    monkeypatch.setenv("http_proxy", "proxy:3128")
    assert proxy_of("http://elsewhere:8000") == "http://proxy:3128"


@both
async def test_a_client_that_is_closed_asks_nothing(kind: type[Client | AsyncClient]) -> None:
    with served(lambda _, connection: answer_all(connection)) as (address, accepted):
        client = kind(address, timeout_s=60)
        if isinstance(client, Client):
            client.close()
            with pytest.raises(ConnectFailed, match="the client is closed"):
                client.classify(b"")
            assert client.ready() is False
        else:
            await client.close()
            with pytest.raises(ConnectFailed, match="the client is closed"):
                await client.classify(b"")
            assert await client.ready() is False
        assert accepted == []


def test_who_closes_a_client_lets_a_thread_have_the_answer_it_waits_for() -> None:
    """Where its socket was closed below it, it would ask anew, or wait until its time is over."""
    asked, may_answer, ended = threading.Event(), threading.Event(), threading.Event()

    def late(_: int, connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        asked.set()
        assert may_answer.wait(30)
        connection.sendall(ANSWER)
        assert connection.recv(1) == b""  # the connection is closed once it is used no longer
        ended.set()

    labels: list[str] = []
    with served(late) as (address, accepted):
        client = Client(address, timeout_s=600)
        thread = threading.Thread(target=lambda: labels.append(client.classify(b"").label), daemon=True)
        thread.start()
        assert asked.wait(30)
        client.close()
        may_answer.set()
        thread.join(30)
        assert labels == ["red"]
        assert ended.wait(30)
        assert accepted == [0]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # nobody can close what a loop has left that is over
def test_a_second_event_loop_gets_connections_of_its_own() -> None:
    def once(_: int, connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(ANSWER)

    with served(once) as (address, accepted):
        client = AsyncClient(address, timeout_s=60)

        async def ask_and_close() -> str:
            async with client:
                return (await client.classify(b"")).label

        assert asyncio.run(client.classify(b"")).label == "red"
        assert asyncio.run(ask_and_close()) == "red"
        assert accepted == [0, 1]


FORKED = """
import os, sys
from mixer_client import Client
client = Client(sys.argv[1], timeout_s=60)
assert client.classify(b"").label == "red"
child = os.fork()
if child == 0:
    os._exit(0 if client.classify(b"").label == "red" else 1)
client.close()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.process
def test_a_forked_process_gets_connections_of_its_own() -> None:
    with served(lambda _, connection: answer_all(connection)) as (address, accepted):
        subprocess.run([sys.executable, "-c", FORKED, address], cwd=ROOT, check=True, timeout=60)
        assert accepted == [0, 1]


@both
async def test_a_time_that_no_socket_takes_is_as_good_as_any(kind: type[Client | AsyncClient]) -> None:
    with served(lambda _, connection: answer_all(connection)) as (address, _):
        assert await ask(kind, address, timeout_s=1e300) == ["red"]
