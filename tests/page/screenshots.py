"""Draws docs/images/page-*.png anew: `python -m tests.page.screenshots`, with Chromium and the fonts of this machine.

Every answer in them is that of a service in a process of its own.
"""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from tests.app.servers import ROOT, Server, free_port
from tests.page.conftest import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = ROOT / "docs" / "images"
EXAMPLES = sorted((ROOT / "examples").glob("*.jpg"))
DRAWINGS = [ROOT / "tests" / "drawings" / name for name in ("bag.png", "ankle-boot.png", "coat.png")]
DESK = {"width": 1160, "height": 800}
PHONE = {"width": 360, "height": 740}


def start(page: "Page") -> None:
    expect(page.locator("#known")).to_be_visible()


def answered(page: "Page", example: Path) -> None:
    """Of up to twenty tries the first that no other work on this machine has slowed."""
    for _ in range(20):
        page.set_input_files("#choose", example)
        expect(page.locator("#stage-answer")).to_have_text(example.stem)
        told = re.search(r"([\d.]+) ms", page.locator("#timing-title").inner_text())
        if told is not None and float(told[1]) < 15:
            return
        page.click("#remove")
    page.set_input_files("#choose", example)
    expect(page.locator("#stage-answer")).to_have_text(example.stem)


def one(page: "Page") -> None:
    answered(page, ROOT / "examples" / "dress.jpg")


def why(page: "Page") -> None:
    answered(page, ROOT / "examples" / "pants.jpg")
    page.click("#why")
    expect(page.locator("canvas.heat")).to_be_visible()


def many(page: "Page") -> None:
    page.set_input_files("#choose", [*EXAMPLES, *DRAWINGS])
    expect(page.locator("#count")).to_contain_text("9 answered")
    page.click("th[data-column=probability] button")
    page.click("th[data-column=probability] button")


PICTURES: dict[str, tuple[Callable[["Page"], None], dict[str, Any]]] = {
    "start": (start, {"viewport": DESK}),
    "one": (one, {"viewport": DESK}),
    "why": (why, {"viewport": DESK}),
    "many": (many, {"viewport": DESK, "color_scheme": "dark"}),
    "phone": (one, {"viewport": PHONE, "has_touch": True, "is_mobile": True}),
}


def draw(browser: "Browser", origin: str, name: str) -> None:
    look, options = PICTURES[name]
    page = browser.new_page(reduced_motion="reduce", **options)
    page.goto(origin)
    look(page)
    page.mouse.move(0, 0)
    page.evaluate("() => document.activeElement.blur()")
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shot.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(IMAGES / f"page-{name}.png", optimize=True)
    page.close()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    port = free_port()
    with (
        Server("-m", "cli", "serve", "--port", str(port), "--workers", "1", port=port) as server,
        sync_playwright() as playwright,
    ):
        server.wait_until_serving()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name in PICTURES:
            draw(browser, f"http://127.0.0.1:{port}", name)


if __name__ == "__main__":
    main()
