"""Two services, one of which is locked and has little room, and a browser that looks at their pages."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.servers import PATIENCE_S, ROOT, Server, free_port
from tests.page.visitor import File, Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
KEY = "a-key-for-the-tests-of-the-page"


@dataclass(frozen=True)
class Site:
    """A service and the origin of its page."""

    origin: str


def _served(*flags: str) -> Iterator[Site]:
    port = free_port()
    command = ("-m", "cli", "serve", "--port", str(port), "--workers", "1", *flags)
    with Server(*command, port=port) as server:
        server.wait_until_serving()
        yield Site(f"http://127.0.0.1:{port}")


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The default model, open to all, below any prefix."""
    yield from _served()


@pytest.fixture(scope="session")
def locked_site() -> Iterator[Site]:
    """Both models that ship, for who has the key, with room for one picture at a time."""
    bundles = ("--bundle", str(ROOT / "bundles"), "--default-model", "clothes")
    room = ("--queue-capacity", "1", "--max-images-per-request", "1")
    seldom = ("--canary-interval-s", "3600")  # or the canary has the one place just when somebody wants it
    yield from _served(*bundles, *room, *seldom, "--api-keys", KEY, "--root-path", "/mixer")


@pytest.fixture(scope="module")  # not longer: Playwright has an event loop in this thread, which other tests want
def browser() -> Iterator["Browser"]:
    """Debian's Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright; scripts/install cpu,dev brings it")
    if CHROMIUM is None:
        pytest.skip("no Chromium; apt-get install chromium brings it")
    sync_api.expect.set_options(timeout=PATIENCE_S * 1000)
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Visit]:
    """`visit(site, path, color_scheme="dark", viewport=...)`: somebody opens the page, and nothing goes wrong."""
    with ExitStack() as opened:
        visitors: list[Visitor] = []

        def come(site: Site, path: str = "/", **options: Any) -> Visitor:
            context = browser.new_context(**{"reduced_motion": "reduce", **options})
            opened.callback(context.close)
            context.set_default_timeout(PATIENCE_S * 1000)
            visitors.append(Visitor(context.new_page(), site.origin))
            visitors[-1].opens(path)
            return visitors[-1]

        yield come
        for visitor in visitors:
            visitor.expect_nothing_wrong()


@pytest.fixture(scope="session")
def clothes() -> list[File]:
    """The six examples, each with its label for a name."""
    return [(path.name, path.read_bytes()) for path in sorted((ROOT / "examples").glob("*.jpg"))]


@pytest.fixture(scope="session")
def drawing() -> File:
    """Of something that the default model does not know."""
    path = Path(ROOT / "tests" / "drawings" / "bag.png")
    return path.name, path.read_bytes()
