"""POST /admin/reload: for operators only, on their port where they have one, and not while draining."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp

from app import main
from app.server.uvicorn_server import Service
from app.settings import Settings
from tests.app.problem_answers import expect_problem

ADMIN, CLIENT = "an-operators-key-of-length", "a-clients-key-of-some-length"


@asynccontextmanager
async def served(bundle: Path, **options: Any) -> AsyncIterator[Service]:
    made = main.create_service(Settings(bundle=bundle, provider="cpu", instances=1, decode_threads=1, **options))
    async with made.app.router.lifespan_context(made.app):
        yield made


async def post(app: ASGIApp, key: str | None = None, path: str = "/admin/reload") -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
        return await http.post(path, headers={} if key is None else {"Authorization": f"Bearer {key}"})


async def test_without_a_key_for_operators_nobody_reloads(bundle: Path) -> None:
    async with served(bundle, api_keys=CLIENT) as service:
        for key in (None, CLIENT):
            expect_problem(await post(service.app, key), 403, "forbidden", "MIXER_ADMIN_KEYS")


@pytest.mark.parametrize("key", [None, CLIENT, "another-key-of-enough-length"])
async def test_only_a_key_for_operators_opens_it(key: str | None, bundle: Path) -> None:
    async with served(bundle, api_keys=CLIENT, admin_keys=ADMIN) as service:
        expect_problem(await post(service.app, key), 401, "bad_api_key")
        answer = await post(service.app, ADMIN)
        assert (answer.status_code, answer.json()["workers"]) == (200, 1)


async def test_where_operators_have_a_port_it_is_there_and_nowhere_else(bundle: Path) -> None:
    async with served(bundle, admin_keys=ADMIN, admin_port=18999) as service:
        assert service.admin is not None
        expect_problem(await post(service.app, ADMIN), 404, "not_found")
        expect_problem(await post(service.admin), 401, "bad_api_key")
        assert (await post(service.admin, ADMIN)).status_code == 200


async def test_who_drains_reloads_no_more(bundle: Path) -> None:
    app = main.create_service(
        Settings(bundle=bundle, provider="cpu", instances=1, decode_threads=1, admin_keys=ADMIN)
    ).app
    async with app.router.lifespan_context(app):
        pass
    expect_problem(await post(app, ADMIN), 503, "not_ready", "draining")


async def test_it_is_described(bundle: Path) -> None:
    async with served(bundle, admin_keys=ADMIN) as service:
        described = cast(FastAPI, service.app).openapi()["paths"]["/admin/reload"]["post"]["responses"]
        assert set(described) == {"200", "401", "403", "409", "500", "503", "504"}


async def test_it_is_read_with_get_by_nobody(bundle: Path) -> None:
    async with served(bundle, admin_keys=ADMIN) as service:
        transport = httpx.ASGITransport(service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            expect_problem(await http.get("/admin/reload"), 405, "method_not_allowed")
