"""Everybody can use the page: axe finds nothing, no size cuts it off, and the keyboard reaches everything."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.page.conftest import KEY, Site, Visit
from tests.page.test_trouble import problem, refusing
from tests.page.visitor import File, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.process]

PHONE = {"width": 320, "height": 640}


def empty(visitor: Visitor, files: list[File], drawing: File) -> None:
    visitor.sees("#known")


def one(visitor: Visitor, files: list[File], drawing: File) -> None:
    visitor.chooses(files[0])
    visitor.sees("#stage-answer", "dress")
    visitor.at("#curl summary").click()
    visitor.sees("#command")


def unsure(visitor: Visitor, files: list[File], drawing: File) -> None:
    visitor.chooses(drawing)
    visitor.sees("#stage-answer", "Not sure")


def why(visitor: Visitor, files: list[File], drawing: File) -> None:
    one(visitor, files, drawing)
    visitor.at("#why").click()
    visitor.sees("canvas.heat")


def many(visitor: Visitor, files: list[File], drawing: File) -> None:
    long = ("a-rather-long-name-of-a-file-as-cameras-and-phones-give-them-20261129.png", drawing[1])
    visitor.chooses(*files, ("notes.txt", b"These are notes."), long)
    visitor.answers_are_in(7)
    visitor.at("th[data-column=probability] button").click()


def failed(visitor: Visitor, files: list[File], drawing: File) -> None:
    visitor.chooses(("notes.txt", b"These are notes."))
    visitor.sees("#stage-answer", "No answer")


def busy(visitor: Visitor, files: list[File], drawing: File) -> None:
    refusing(visitor, 9, problem(429, "queue_full", "No room.", **{"Retry-After": "600"}))
    visitor.chooses(*files)
    visitor.sees("#notices", "The service is busy.")


STATES = (empty, one, unsure, why, many, failed, busy)


def expect_no_violation(visitor: Visitor) -> None:
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415  # only where there is a browser

    found = Axe().run(visitor.page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_axe_finds_nothing(
    state: Callable[..., None], scheme: str, site: Site, visit: Visit, clothes: list[File], drawing: File
) -> None:
    visitor = visit(site, color_scheme=scheme)
    state(visitor, clothes, drawing)
    expect_no_violation(visitor)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_where_a_key_is_asked_for(scheme: str, locked_site: Site, visit: Visit) -> None:
    visitor = visit(locked_site, color_scheme=scheme)
    visitor.at("#key-value").fill("another-key-of-somebody-else")
    visitor.at("#key-value").press("Enter")
    visitor.sees("#key-error", "does not take this key")
    expect_no_violation(visitor)
    visitor.at("#key-value").fill(KEY)
    visitor.at("#key-value").press("Enter")
    visitor.sees("#chooser")
    expect_no_violation(visitor)


_CUT_HEADINGS = """() => [...document.querySelectorAll("thead th")]
    .filter((head) => head.firstElementChild.getBoundingClientRect().right > head.getBoundingClientRect().right + 0.5)
    .map((head) => head.textContent)"""


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_on_a_small_phone_nothing_is_cut_off(
    state: Callable[..., None], site: Site, visit: Visit, clothes: list[File], drawing: File
) -> None:
    visitor = visit(site, viewport=PHONE)
    state(visitor, clothes, drawing)
    assert visitor.page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
    assert visitor.page.evaluate(_CUT_HEADINGS) == []
    expect_no_violation(visitor)


def focused(visitor: Visitor) -> dict[str, Any]:
    """What has the focus, and whether that can be seen."""
    found: dict[str, Any] = json.loads(
        visitor.page.evaluate("""() => {
            const element = document.activeElement;
            const shown = element.closest(".button") ?? element;
            const { outlineStyle, outlineWidth } = getComputedStyle(shown);
            const name = element === document.body ? "" : element.id || element.innerText;
            return JSON.stringify({ name, style: outlineStyle, width: outlineWidth });
        }""")
    )
    return found


def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    visitor.chooses(*clothes[:2])
    visitor.answers_are_in(2)
    visitor.page.evaluate("() => document.activeElement.blur()")
    reached: list[str] = []
    visitor.page.keyboard.press("Tab")
    while (found := focused(visitor))["name"] != "":  # the end of the page
        assert found["name"] not in reached
        assert found["style"] != "none", found
        assert float(found["width"].removesuffix("px")) >= 1, found
        reached.append(found["name"])
        visitor.page.keyboard.press("Tab")
    for name in ("choose", "previous", "next", "why", "remove", "csv", "clear", "Probability", "dress.jpg"):
        assert name in reached
    assert reached.index("choose") < reached.index("why") < reached.index("csv") < reached.index("dress.jpg")


def test_the_way_to_the_pictures_may_be_cut_short(site: Site, visit: Visit) -> None:
    visitor = visit(site)
    visitor.page.keyboard.press("Tab")
    visitor.sees(".skip:focus", "Skip to the pictures")
    visitor.page.keyboard.press("Enter")
    assert visitor.page.evaluate("() => document.activeElement.id") == "main"


def test_without_a_script_the_page_leads_to_the_documentation(site: Site, visit: Visit) -> None:
    visitor = visit(site, java_script_enabled=False)
    visitor.sees("noscript .notice", "This page needs JavaScript")


def test_who_wants_no_motion_gets_none(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site, reduced_motion="reduce")
    visitor.page.route("**/classify", lambda route: None)  # no answer ever comes
    visitor.chooses(clothes[0])
    visitor.sees("#stage-answer", "Looking")
    names = "() => [...document.querySelectorAll('.skeleton span')].map((one) => getComputedStyle(one).animationName)"
    assert set(visitor.page.evaluate(names)) == {"none"}
    visitor.page.unroute_all(behavior="ignoreErrors")


def test_long_names_of_models_and_labels_are_not_cut_off_on_a_small_phone(site: Site, visit: Visit) -> None:
    visitor = visit(site, viewport=PHONE)
    long = "W" * 300
    models = {"default": long, "models": [{"name": long}, {"name": "other"}]}
    spec = {"name": long, "version": long, "labels": [long, "<b>short</b>"]}
    visitor.page.route("**/models", lambda route: route.fulfill(json=models))
    visitor.page.route("**/model", lambda route: route.fulfill(json={"spec": spec, "precision": "int8", "limits": {}}))
    visitor.opens()
    visitor.sees("#known", "<b>short</b>")
    assert visitor.page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


_FOCUSED = "() => document.activeElement.ariaLabel ?? document.activeElement.id"


def test_a_line_keeps_the_focus_when_its_answer_comes_and_moves_it(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    held: list[Any] = []
    visitor.page.route("**/classify", lambda route: held.append(route))  # noqa: PLW0108  # Playwright takes no built-in
    visitor.chooses(*clothes[:3])
    visitor.waits_until(lambda: len(held) == 3)
    heading = visitor.at("th[data-column=label] button")
    heading.click()
    heading.click()  # the last label first
    visitor.at("#rows button").first.focus()
    for route in held:
        route.continue_()
    visitor.sees_rows("pants", "long sleeve", "dress")
    assert visitor.page.evaluate(_FOCUSED) == "dress.jpg"


def test_the_focus_goes_on_where_what_had_it_goes(locked_site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(locked_site)
    visitor.at("#key-value").fill(KEY)
    visitor.at("#key-value").press("Enter")
    visitor.sees_no("#key")
    assert visitor.page.evaluate(_FOCUSED) == "choose"
    refusing(visitor, 1, problem(500, "inference_failed", "No."))
    visitor.chooses(clothes[0])
    visitor.sees("#again")
    visitor.at("#again").press("Enter")
    visitor.sees("#stage-answer", "dress")
    assert visitor.page.evaluate(_FOCUSED) == "stage"
