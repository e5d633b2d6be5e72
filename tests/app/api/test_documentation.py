"""The page at /docs consists of what the service ships, and is right behind any prefix."""

import hashlib
import re
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

import app
from app.api.documentation import SWAGGER_UI
from tests.app.in_process import Serve

FOLDER = Path(app.__file__).parent / "api" / "swagger_ui"
SHIPPED = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
    "favicon-32x32.png": "3ed612f41e050ca5e7000cad6f1cbe7e7da39f65fca99c02e99e6591056e5837",
}
ADDRESS = re.compile(r'(?:src|href)="([^"]+)"')


def addresses(page: httpx.Response) -> list[str]:
    """Of everything that the page loads or links, as a browser resolves them."""
    return [urljoin(str(page.url), address) for address in ADDRESS.findall(page.text)]


async def test_everything_on_the_page_is_here(serve: Serve) -> None:
    async with serve() as service:
        page = await service.http.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        loaded = addresses(page)
        assert len(loaded) == 5
        for address in loaded:
            assert address.startswith("http://service/")
            assert (await service.http.get(address)).status_code == 200
        script = (await service.http.get("/docs/docs.js")).text
    assert 'url: "openapi.json"' in script
    assert "https:" not in script


async def test_the_page_may_load_nothing_from_elsewhere_and_runs_no_script_of_its_own_text(serve: Serve) -> None:
    async with serve() as service:
        page = await service.http.get("/docs")
    (policy,) = page.headers.get_list("content-security-policy")
    allowed = {name: sources for name, *sources in (one.split() for one in policy.split(";"))}
    assert allowed == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    assert "<style" not in page.text
    assert " style=" not in page.text
    for attributes, text in re.findall(r"<script([^>]*)>([^<]*)</script>", page.text):
        assert "src=" in attributes
        assert text == ""


@pytest.mark.parametrize("name", SHIPPED)
async def test_swagger_ui_is_as_its_makers_published_it_and_kept_under_its_version(name: str, serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.get(f"/docs/{SWAGGER_UI}/{name}")
    assert hashlib.sha256(answer.content).hexdigest() == SHIPPED[name]
    assert answer.headers.get_list("cache-control") == ["public, max-age=31536000, immutable"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert f"swagger-ui-dist {SWAGGER_UI}" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_its_licence_is_with_it() -> None:
    assert "Apache License" in (FOLDER / "LICENSE").read_text(encoding="utf-8")
    assert "SmartBear" in (FOLDER / "NOTICE").read_text(encoding="utf-8")
    assert (FOLDER / "swagger-ui-bundle.js.LICENSE.txt").is_file()


@pytest.mark.parametrize("path", ["/docs", "/docs/docs.js", f"/docs/{SWAGGER_UI}/swagger-ui.css", "/openapi.json"])
async def test_head_answers_as_get_without_a_body(path: str, serve: Serve) -> None:
    async with serve() as service:
        got, head = await service.http.get(path), await service.http.head(path)
    assert head.status_code == got.status_code
    assert head.content == b""
    for name in ("content-type", "content-length", "location", "cache-control", "content-security-policy"):
        assert head.headers.get(name) == got.headers.get(name)


@pytest.mark.parametrize(
    "path", ["/redoc", "/docs/", "/docs/oauth2-redirect", f"/docs/{SWAGGER_UI}/", f"/docs/{SWAGGER_UI}/LICENSE"]
)
async def test_nothing_else_is_served_beside_it(path: str, serve: Serve) -> None:
    async with serve() as service:
        assert (await service.http.get(path)).status_code == 404
