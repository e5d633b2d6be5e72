"""What operators ask for needs their key, and where they have a port of their own it is on no other."""

import logging
import socket
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from app.errors import BadSettings
from app.settings import load
from tests.app.color_bundle import RED, image
from tests.app.in_process import Serve, Service
from tests.app.problem_answers import expect_problem
from tests.app.servers import PATIENCE_S, Server, free_port, read_until

KEY, ADMIN = "a-key-of-sixteen-characters", "another-key-for-operators"
FREE_PORT = 9  # nobody listens in these tests


def operators_of(service: Service) -> httpx.AsyncClient:
    """A client of the port for operators."""
    assert service.admin is not None
    return httpx.AsyncClient(transport=httpx.ASGITransport(service.admin), base_url="http://operators")


# --- one port ---


async def test_metrics_are_open_unless_it_is_said_otherwise(serve: Serve) -> None:
    async with serve(api_keys=KEY, admin_keys=ADMIN) as service:
        answer = await service.http.get("/metrics")
    assert answer.status_code == 200
    assert "mixer_requests_total" in answer.text


async def test_protected_metrics_need_an_operators_key(serve: Serve) -> None:
    async with serve(api_keys=KEY, admin_keys=f"prometheus:{ADMIN}", protect_metrics=True) as service:
        for headers in ({}, {"x-api-key": KEY}):
            expect_problem(await service.http.get("/metrics", headers=headers), 401, "bad_api_key", "API key")
        answer = await service.http.get("/metrics", headers={"authorization": f"Bearer {ADMIN}"})
        assert answer.status_code == 200
        answer = await service.http.get("/metrics", headers={"x-api-key": ADMIN})
    assert 'mixer_key_requests_total{key="prometheus"} 1' in answer.text


async def test_an_operators_key_does_not_classify(serve: Serve) -> None:
    async with serve(api_keys=KEY, admin_keys=ADMIN) as service:
        answer = await service.http.post("/classify", content=image(RED), headers={"x-api-key": ADMIN})
        expect_problem(answer, 401, "bad_api_key", "is not known to this service")


def test_protected_metrics_that_no_key_opens_are_refused() -> None:
    with pytest.raises(BadSettings, match="protect_metrics is true, and no key opens them; expected admin_keys or"):
        load(["--protect-metrics", "true"])


async def test_without_an_operators_key_nobody_administers(serve: Serve) -> None:
    async with serve(api_keys=KEY) as service:
        for headers in ({}, {"x-api-key": KEY}):
            answer = await service.http.post("/admin/reload", headers=headers)
            expect_problem(answer, 403, "forbidden", "expected MIXER_ADMIN_KEYS or MIXER_ADMIN_KEYS_FILE")


@pytest.mark.parametrize("headers", [{}, {"x-api-key": KEY}, {"authorization": "Bearer wrong"}])
async def test_an_api_key_does_not_administer(headers: dict[str, str], serve: Serve) -> None:
    async with serve(api_keys=KEY, admin_keys=ADMIN) as service:
        answer = await service.http.post("/admin/reload", headers=headers)
        expect_problem(answer, 401, "bad_api_key", "API key")


# --- a port of their own ---


async def test_with_a_port_of_their_own_the_public_one_does_not_know_them(serve: Serve) -> None:
    async with serve(admin_port=FREE_PORT, admin_keys=ADMIN) as service:
        for method, path in (("GET", "/metrics"), ("POST", "/admin/reload"), ("GET", "/admin")):
            answer = await service.http.request(method, path, headers={"x-api-key": ADMIN})
            expect_problem(answer, 404, "not_found", "is not served here")
        described = (await service.http.get("/openapi.json")).json()["paths"]
        assert not [path for path in described if path.startswith(("/metrics", "/admin"))]
        async with operators_of(service) as operators:
            answer = await operators.get("/metrics")
            assert answer.status_code == 200
            assert 'mixer_requests_total{endpoint="other",status="404"} 3' in answer.text
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-request-id"]


async def test_the_public_port_then_says_less_of_what_runs(serve: Serve) -> None:
    async with serve(admin_port=FREE_PORT) as service, operators_of(service) as operators:
        public, private = [(await one.get("/model")).json() for one in (service.http, operators)]
        assert {"spec", "precision", "limits"} <= set(public)
        assert not {"provider", "lanes", "fallback"} & set(public)
        assert {"provider", "lanes", "fallback"} <= set(private)
        assert private["limits"]["workers"] == 1
        assert not {"upload_memory_bytes", "decode_memory_bytes", "max_connections", "workers"} & set(public["limits"])
        assert private["limits"].items() >= public["limits"].items()
        public, private = [(await one.get("/health/ready")).json() for one in (service.http, operators)]
        assert public == {"status": "ready"}
        assert private["provider"] == "CPUExecutionProvider" or private["provider"] == "cpu"


async def test_their_port_classifies_nothing(serve: Serve) -> None:
    async with serve(admin_port=FREE_PORT) as service, operators_of(service) as operators:
        for path in ("/classify", "/classify/batch", "/docs", "/openapi.json"):
            assert (await operators.post(path, content=image(RED))).status_code == 404


async def test_administration_needs_a_key_on_their_port_too(serve: Serve) -> None:
    async with serve(admin_port=FREE_PORT) as service, operators_of(service) as operators:
        expect_problem(await operators.post("/admin/reload"), 403, "forbidden", "expected MIXER_ADMIN_KEYS")
    async with serve(admin_port=FREE_PORT, admin_keys=ADMIN) as service, operators_of(service) as operators:
        expect_problem(await operators.post("/admin/reload"), 401, "bad_api_key", "has no API key")


async def test_protected_metrics_are_protected_there_too(serve: Serve) -> None:
    options = {"admin_port": FREE_PORT, "admin_keys": ADMIN, "protect_metrics": True}
    async with serve(**options) as service, operators_of(service) as operators:
        expect_problem(await operators.get("/metrics"), 401, "bad_api_key", "has no API key")
        assert (await operators.get("/metrics", headers={"x-api-key": ADMIN})).status_code == 200


# --- names of keys ---


async def test_logs_and_metrics_tell_the_name_of_the_key_and_never_the_key(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(api_keys=f"phone:{KEY},unused:{ADMIN}") as service:
        with caplog.at_level(logging.DEBUG):
            for path, headers in (
                ("/classify", {"x-api-key": KEY}),
                ("/classify", {"authorization": f"Bearer {KEY}"}),
                ("/classify", {"x-api-key": "wrong-" + KEY}),
                ("/classify", {}),
            ):
                await service.http.post(path, content=image(RED), headers=headers)
            await service.http.get("/model", headers={"x-api-key": KEY})
        samples = service.metrics.samples()
    lines = [record for record in caplog.records if record.name == "mixer.access"]
    assert [vars(line)["key"] for line in lines] == ["phone", "phone", None, None, "phone"]
    assert [line.getMessage().endswith(" key=phone") for line in lines] == [True, True, False, False, True]
    assert KEY not in caplog.text
    assert KEY not in str([vars(record) for record in caplog.records])
    named = {name: value for name, value in samples.items() if name.startswith("mixer_key_requests")}
    assert named == {'mixer_key_requests_total{key="phone"}': 3}


async def test_without_keys_none_is_counted_or_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async with serve() as service:
        with caplog.at_level(logging.INFO, "mixer.access"):
            await service.http.post("/classify", content=image(RED), headers={"x-api-key": KEY})
        assert not [name for name in service.metrics.samples() if name.startswith("mixer_key_requests")]
    assert "key=" not in caplog.text


# --- over real sockets ---


@pytest.mark.process
def test_when_all_connections_are_taken_operators_are_served_all_the_same(bundle: Path) -> None:
    port, admin_port = free_port(), free_port()
    command = [
        "-m", "cli", "serve", "--bundle", str(bundle), "--port", str(port), "--admin-port", str(admin_port),
        "--workers", "1", "--instances", "1", "--max-connections", "3",
    ]  # fmt: skip
    with Server(*command, port=port) as running, ExitStack() as held:
        running.wait_until_serving()
        assert [line for line in running.lines if f"operators are served on http://127.0.0.1:{admin_port}" in line]
        for status in (b"200", b"200", b"200", b"503"):
            connection = held.enter_context(running.connect())
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n")
            assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 " + status)
        with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/metrics", timeout=PATIENCE_S) as answer:
            assert "mixer_connections " in answer.read().decode()


@pytest.mark.process
def test_a_port_for_operators_that_is_taken_is_named(bundle: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = free_port()
        flags = ["--bundle", str(bundle), "--workers", "1", "--admin-port", str(taken.getsockname()[1])]
        with Server("-m", "cli", "serve", "--port", str(port), *flags, port=port) as running:
            assert running.exit_code() == 1
    assert running.lines[-1] == (
        f"mixer: MIXER_ADMIN_HOST is 127.0.0.1 and MIXER_ADMIN_PORT {flags[-1]}, "
        "which cannot be listened on: Address already in use.\n"
    )


async def test_their_port_has_no_documentation_and_points_to_none(serve: Serve) -> None:
    async with serve(admin_port=FREE_PORT, admin_keys=ADMIN) as service, operators_of(service) as operators:
        assert (await operators.get("/docs")).status_code == 404
        detail = expect_problem(await operators.get("/nothing"), 404, "not_found", "/metrics", "/admin/reload")
        assert "/docs" not in detail
