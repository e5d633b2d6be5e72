"""Whom a trusted proxy speaks for."""

from typing import Any

import pytest

from app.http.forwarded import behind


async def client_seen(forwarded: str, peer: str = "127.0.0.1", proxies: str = "127.0.0.1") -> str:
    seen: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])

    headers = [(b"x-forwarded-for", forwarded.encode("latin-1"))]
    scope: Any = {"type": "http", "client": (peer, 1), "headers": headers, "scheme": "http"}
    await behind(proxies, application)(scope, None, None)  # type: ignore[arg-type]
    return seen[0]


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("198.51.100.1, 192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("192.0.2.7, 127.0.0.1", "192.0.2.7"),
    ],
)
async def test_a_trusted_proxy_names_the_client(forwarded: str, client: str) -> None:
    assert await client_seen(forwarded) == client


@pytest.mark.parametrize(
    "forwarded",
    ["x" * 50_000, "somebody", "a\tb", "192.0.2.7, <script>", "fe80::1%" + "x" * 50_000, "fe80::1%\t", "1" * 64, ""],
)
@pytest.mark.parametrize("proxies", ["127.0.0.1", "*"])
async def test_what_is_no_address_is_nobodys(forwarded: str, proxies: str) -> None:
    if proxies == "*" and forwarded.startswith("192.0.2.7"):
        pytest.skip("the first one counts")
    assert await client_seen(forwarded, proxies=proxies) == "127.0.0.1"


async def test_whoever_is_not_trusted_names_nobody() -> None:
    assert await client_seen("192.0.2.7", peer="203.0.113.9") == "203.0.113.9"
