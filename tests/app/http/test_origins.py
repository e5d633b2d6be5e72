"""Pages of other origins may read nothing, unless they are configured; then dispatched endpoints answer them, too."""

import pytest

from app.errors import BadSettings
from app.settings import load
from tests.app.color_bundle import RED, color_spec, image
from tests.app.fakes import FakeSession, engine_of
from tests.app.in_process import Serve

SHOP, OTHER = "https://shop.example", "https://other.example"
ALLOW = "access-control-allow-origin"


def preflight(origin: str, method: str = "POST") -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "x-api-key,x-request-timeout-ms,content-type,authorization,"
        "inference-header-content-length",
    }


@pytest.mark.parametrize("path", ["/classify", "/model", "/health/ready"])
async def test_by_default_no_page_of_another_origin_may_read_anything(path: str, serve: Serve) -> None:
    async with serve() as service:
        asked = await service.http.options(path, headers=preflight(SHOP))
        assert asked.status_code == 405
        answer = await service.http.request(
            "POST" if path == "/classify" else "GET", path, headers={"origin": SHOP}, content=image(RED)
        )
    assert answer.status_code == 200
    for one in (asked, answer):
        assert not [name for name in one.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ["/classify", "/classify/batch", "/model"])
async def test_a_configured_origin_is_let_in_before_its_request(path: str, serve: Serve) -> None:
    async with serve(cors_origins=f"https://else.example, {SHOP}") as service:
        asked = await service.http.options(path, headers=preflight(SHOP))
        refused = await service.http.options(path, headers=preflight(OTHER))
    assert (asked.status_code, asked.headers[ALLOW]) == (200, SHOP)
    assert {"x-api-key", "x-request-timeout-ms"} <= set(asked.headers["access-control-allow-headers"].split(", "))
    assert asked.headers["access-control-allow-methods"] == "GET, POST, PUT"
    assert refused.status_code == 400
    assert ALLOW not in refused.headers
    for one in (asked, refused):
        assert one.headers["x-request-id"]
        assert "access-control-allow-credentials" not in one.headers


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/classify", image(RED), 200),
        ("POST", "/classify", b"no picture", 400),
        ("POST", "/classify/batch", image(RED), 415),
        ("GET", "/model", None, 200),
        ("GET", "/nothing", None, 404),
    ],
)
async def test_a_configured_origin_may_read_every_answer_and_its_ids(
    method: str, path: str, content: bytes | None, status: int, serve: Serve
) -> None:
    async with serve(cors_origins=SHOP) as service:
        allowed = await service.http.request(method, path, content=content, headers={"origin": SHOP})
        refused = await service.http.request(method, path, content=content, headers={"origin": OTHER})
    assert allowed.status_code == refused.status_code == status
    assert allowed.headers[ALLOW] == SHOP
    assert "Origin" in allowed.headers["vary"]
    assert "retry-after" in allowed.headers["access-control-expose-headers"]
    assert ALLOW not in refused.headers


async def test_a_page_may_read_that_the_service_failed(serve: Serve) -> None:
    def fail(patches: object) -> object:
        raise ZeroDivisionError

    spec = color_spec(canary=None)
    async with serve(engine_of(FakeSession(spec, fail), spec), cors_origins=SHOP) as service:
        answer = await service.http.post("/classify", content=image(RED), headers={"origin": SHOP})
    assert answer.status_code == 500
    assert answer.headers[ALLOW] == SHOP


async def test_all_origins_is_a_star(serve: Serve) -> None:
    async with serve(cors_origins="*") as service:
        answer = await service.http.post("/classify", content=image(RED), headers={"origin": OTHER})
    assert answer.headers[ALLOW] == "*"


@pytest.mark.parametrize(
    "origins", ["", "*", "http://localhost:3000", "https://a.example,https://b.example:8443", "http://[::1]:80", " , "]
)
def test_origins_are_written_as_browsers_write_them(origins: str) -> None:
    settings = load(["--cors-origins", origins])
    assert settings.origins == tuple(one for one in origins.split(",") if one.strip())


@pytest.mark.parametrize(
    "origin", ["shop.example", "https://shop.example/", "https://Shop.example", "ftp://a.example", "null", "https://*"]
)
def test_what_no_browser_would_send_is_refused(origin: str) -> None:
    with pytest.raises(BadSettings) as refused:
        load(["--cors-origins", f"{SHOP},{origin}"])
    assert f"{origin} is no origin; expected *, or as in https://shop.example:8443." in str(refused.value)
