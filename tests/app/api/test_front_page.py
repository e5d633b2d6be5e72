"""The page at / consists of what the service ships, under a strict policy, and is right behind any prefix."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

import app
from app.http.forwarded import behind
from tests.app.in_process import Serve

FOLDER = Path(app.__file__).parent / "api" / "page"
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PROXY = "192.0.2.1"
LOADED = re.compile(r'\b(?:from|import)\s*\(?\s*"([^"]+)"')
ELSEWHERE = re.compile(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z]")
STORED = ("localStorage", "sessionStorage", "indexedDB", "document.cookie", "caches.")
MARKUP = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function")


class Addresses(HTMLParser):
    """Those that a page loads or links, and what its policy would refuse."""

    def __init__(self, page: httpx.Response) -> None:
        super().__init__()
        self.found: list[str] = []
        self.refused: list[str] = []
        self._url = str(page.url)
        self.feed(page.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [urljoin(self._url, given[name] or "") for name in ("src", "href") if name in given]
        if tag in ("style", "base", "iframe", "object") or (tag == "script" and "src" not in given):
            self.refused.append(tag)
        self.refused += [name for name in given if name == "style" or name.startswith("on")]


def loaded_from(page: httpx.Response) -> list[str]:
    return [address for address in Addresses(page).found if "/page/" in address]


async def test_browsers_get_the_page_and_programs_are_told_that_the_service_is_alive(serve: Serve) -> None:
    async with serve() as service:
        page = await service.http.get("/", headers=BROWSER)
        told = await service.http.get("/", headers={"accept": "application/json"})
        bare = await service.http.get("/", headers={"accept": "*/*"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<h1>What is in the picture?</h1>" in page.text
    assert told.json() == bare.json() == {"status": "alive"}
    assert told.headers["vary"] == page.headers["vary"] == "Accept"
    assert page.headers["cache-control"] == "no-store"


async def test_everything_on_the_page_is_here_and_never_changes_at_its_address(serve: Serve) -> None:
    async with serve() as service:
        loaded = set(loaded_from(await service.http.get("/", headers=BROWSER)))
        assert {urlsplit(address).path.rpartition("/")[2] for address in loaded} == {"page.css", "page.js", "icon.svg"}
        scripts = [urljoin(address, path.name) for address in loaded for path in FOLDER.glob("*.js")]
        for address in sorted(loaded | set(scripts)):
            assert address.startswith("http://service/page/")
            answer = await service.http.get(address)
            assert answer.content == (FOLDER / address.rpartition("/")[2]).read_bytes()
            assert answer.headers.get_list("cache-control") == ["public, max-age=31536000, immutable"]
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_it_links_is_served(serve: Serve) -> None:
    async with serve() as service:
        page = await service.http.get("/", headers=BROWSER)
        linked = {address.partition("#")[0] for address in Addresses(page).found} - {"http://service/"}
        assert "http://service/docs" in linked
        for address in linked:
            assert (await service.http.get(address)).status_code == 200


async def test_its_policy_lets_nothing_in_but_its_own_files_and_pictures_in_memory(serve: Serve) -> None:
    async with serve() as service:
        page = await service.http.get("/", headers=BROWSER)
    (policy,) = page.headers.get_list("content-security-policy")
    assert {name: sources for name, *sources in (one.split() for one in policy.split(";"))} == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    assert Addresses(page).refused == []


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_no_file_names_another_origin_stores_anything_or_makes_markup_of_text(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not ELSEWHERE.search(text)
    assert [word for word in STORED + MARKUP if word in text] == []


def test_scripts_import_each_other_and_nothing_else() -> None:
    names = {path.name for path in FOLDER.glob("*.js")}
    imported = {name for path in FOLDER.glob("*.js") for name in LOADED.findall(path.read_text(encoding="utf-8"))}
    assert imported == {f"./{name}" for name in names - {"page.js"}}


@pytest.mark.parametrize(
    ("forwarded", "root"), [("/vision/mixer", "/vision/mixer/"), ("/ROOT/FOLDER", "/ROOT/FOLDER/"), ("", "")]
)
async def test_behind_a_proxy_every_address_has_its_prefix(forwarded: str, root: str, serve: Serve) -> None:
    async with serve() as service:
        transport = httpx.ASGITransport(behind(PROXY, service.app, ""), client=(PROXY, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            page = await http.get("/", headers={**BROWSER, "x-forwarded-prefix": forwarded})
    assert re.findall(r'(?:src|href)="([^"#]*page)/[0-9a-f]{16}/page\.css"', page.text) == [f"{root}page"]
    assert f'href="{root}docs"' in page.text


async def test_with_a_root_path_page_and_files_are_there_with_it_and_without_it(serve: Serve) -> None:
    async with serve(root_path="/mixer") as service:
        transport = httpx.ASGITransport(behind(PROXY, service.app, "/mixer"), client=(PROXY, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            for path in ("/", "/mixer/"):
                loaded = loaded_from(await http.get(path, headers=BROWSER))
                assert all(address.startswith("http://service/mixer/page/") for address in loaded)
                for address in loaded:
                    assert (await http.get(address)).status_code == 200
                    assert (await http.get(address.replace("/mixer/", "/", 1))).status_code == 200


async def test_head_answers_as_get_without_a_body(serve: Serve) -> None:
    async with serve() as service:
        (style,) = {one for one in loaded_from(await service.http.get("/", headers=BROWSER)) if one.endswith("css")}
        for address in ("/", style):
            got, head = [await service.http.request(one, address, headers=BROWSER) for one in ("GET", "HEAD")]
            assert (head.status_code, head.content) == (200, b"")
            for name in ("content-type", "content-length", "cache-control", "content-security-policy"):
                assert head.headers.get(name) == got.headers.get(name)


async def test_no_key_is_needed_for_it(serve: Serve) -> None:
    async with serve(api_keys="0123456789abcdef") as service:
        page = await service.http.get("/", headers=BROWSER)
        assert page.status_code == 200
        for address in loaded_from(page):
            assert (await service.http.get(address)).status_code == 200


async def test_nothing_else_is_served_beside_it(serve: Serve) -> None:
    async with serve() as service:
        (style,) = {one for one in loaded_from(await service.http.get("/", headers=BROWSER)) if one.endswith("css")}
        for name in ("page.html", ".", "nothing.js"):
            assert (await service.http.get(urljoin(style, name))).status_code == 404
        assert (await service.http.get("/page/0123456789abcdef/page.css")).status_code == 404
        assert (await service.http.get("/page")).status_code == 404


async def test_without_the_page_browsers_are_sent_to_the_documentation_without_naming_a_host(serve: Serve) -> None:
    async with serve() as service:
        (style,) = {one for one in loaded_from(await service.http.get("/", headers=BROWSER)) if one.endswith("css")}
    async with serve(page=False) as service:
        answer = await service.http.get("/", headers={"host": "elsewhere.example", **BROWSER})
        told = await service.http.get("/")
        assert (await service.http.get(style)).status_code == 404
    assert (answer.status_code, answer.headers["location"]) == (307, "docs")
    assert (told.status_code, told.json()) == (200, {"status": "alive"})  # as KServe's client asks
    assert told.headers["vary"] == answer.headers["vary"] == "Accept"
