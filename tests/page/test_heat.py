"""Why a label: a map over the picture, and the same in words. A stand-in explains what no service would."""

import io
import re
from typing import Any

import pytest
from PIL import Image

from tests.app.servers import until
from tests.page.conftest import KEY, Site, Visit
from tests.page.visitor import File, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.process]

_COLOR_AT = """(canvas, [x, y]) => {
    const at = (share, size) => Math.min(size - 1, Math.floor(share * size));
    return [...canvas.getContext("2d").getImageData(at(x, canvas.width), at(y, canvas.height), 1, 1).data];
}"""


def explanation(values: list[list[float]]) -> dict[str, Any]:
    """Of dress.jpg, 360 x 480: the square in its middle is what the model sees."""
    return {
        "model": {"name": "clothes", "version": "1", "precision": "int8"},
        "method": "occlusion",
        "baseline": "mean",
        "unit": "logit",
        "runs": len(values) * len(values[0]) + 1,
        "target": {"label": "dress", "index": 0, "probability": 0.97},
        "grid": {"rows": len(values), "columns": len(values[0]), "values": values},
        "region": {"left": 0, "top": 60, "right": 360, "bottom": 420, "width": 360, "height": 480},
    }


def explained(visitor: Visitor, **answer: Any) -> list[Any]:
    """The requests to a stand-in for POST /explain."""
    asked: list[Any] = []

    def answered(route: Any) -> None:
        asked.append(route.request)
        route.fulfill(**answer)

    visitor.page.route("**/explain?*", answered)
    return asked


def why(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="Why?").click()


def asks_until_it_is_explained(visitor: Visitor) -> int:
    """Again for as long as the one place is taken, as it may be by what a page that is closed had asked for.

    How often that was.
    """
    clicks = 0

    def is_explained() -> bool:
        nonlocal clicks
        clicks += 1
        with visitor.page.expect_response("**/explain?*") as answered:
            why(visitor)
        return answered.value.status not in (429, 503)

    until(is_explained)
    visitor.sees("canvas.heat")
    return clicks


def expect_over_its_middle(visitor: Visitor) -> None:
    """The map lies over the square in the middle of a picture of 3 x 4."""
    drawn, shown = visitor.at("canvas.heat").bounding_box(), visitor.at(".frame img").bounding_box()
    assert drawn is not None
    assert shown is not None
    assert shown["height"] / shown["width"] == pytest.approx(4 / 3, abs=0.01)
    assert (drawn["x"], drawn["width"]) == pytest.approx((shown["x"], shown["width"]), abs=1)
    assert drawn["height"] / shown["height"] == pytest.approx(0.75, abs=0.01)
    assert (drawn["y"] - shown["y"]) / shown["height"] == pytest.approx(0.125, abs=0.01)


def test_the_map_of_a_picture_that_the_model_turned_back_is_turned_with_it(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    answer = explanation([[1.0, 0.0], [0.0, 0.0]])
    answer["region"].update(left=0, top=0, right=180, bottom=180, turned=90.0)
    explained(visitor, json=answer)
    visitor.chooses(clothes[0])
    why(visitor)
    visitor.sees("canvas.heat")
    words = visitor.at("#heat-words").inner_text()
    assert "rests most on the upper left of the picture, turned upright by 90°" in words
    drawn, shown = visitor.at("canvas.heat").bounding_box(), visitor.at(".frame img").bounding_box()
    assert drawn is not None
    assert shown is not None
    # a quarter counterclockwise around (180, 240): left 0 to 180, top 0 to 180 comes to left -60 to 120, top 240 to 420
    across = shown["width"] / 360
    assert (drawn["x"] - shown["x"]) / across == pytest.approx(-60, abs=2)
    assert (drawn["y"] - shown["y"]) / across == pytest.approx(240, abs=2)


def test_the_service_explains_its_label_over_the_picture_and_in_words(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    visitor.chooses(clothes[0])
    with visitor.page.expect_response("**/explain?*") as awaited:
        why(visitor)
    visitor.sees("canvas.heat")
    expected = re.compile(r"The label “dress” rests most on the [a-z ]+ of the picture(, and .*)?: \d+\.\d% of what")
    visitor.sees("#heat-words", expected)
    visitor.hears("The label “dress” rests most on")
    assert visitor.at("#why").get_attribute("aria-pressed") == "true"
    expect_over_its_middle(visitor)
    answer = awaited.value
    assert answer.url.endswith("/explain?target=0&method=occlusion&baseline=mean")
    assert answer.request.headers["accept"] == "application/json"
    assert answer.request.post_data_buffer == clothes[0][1]
    expect_drawn(visitor, answer.json()["grid"])


def test_whoever_was_answered_asks_why_and_is_another_client_on_another_page(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    clients = []
    for visitor in (visit(site), visit(site)):
        with visitor.page.expect_request("**/classify") as asked:
            visitor.chooses(clothes[0])
        with visitor.page.expect_request("**/explain?*") as asked_why:
            why(visitor)
        clients.append(asked.value.headers["x-client-id"])
        assert asked_why.value.headers["x-client-id"] == clients[-1]
        visitor.sees("canvas.heat")
    assert clients[0] != clients[1]


def expect_drawn(visitor: Visitor, grid: dict[str, Any]) -> None:
    """What speaks most for the label is nearly opaque and red, what speaks most against it blue."""
    places = [(row, column) for row in range(grid["rows"]) for column in range(grid["columns"])]
    places.sort(key=lambda place: grid["values"][place[0]][place[1]])

    def color_at(row: int, column: int) -> list[int]:
        middle = [(column + 0.5) / grid["columns"], (row + 0.5) / grid["rows"]]
        found: list[int] = visitor.at("canvas.heat").evaluate(_COLOR_AT, middle)
        return found

    red, _, blue, alpha = color_at(*places[-1])
    assert red > blue
    assert alpha > 180
    red, _, blue, _ = color_at(*places[0])
    assert blue > red


def test_a_map_has_the_color_and_the_place_of_each_number(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    explained(visitor, json=explanation([[0.5, 0, 0], [0, 0, 0], [0, 0, -0.25]]))
    visitor.chooses(clothes[0])
    why(visitor)
    visitor.sees("#heat-words", "The label “dress” rests most on the upper left of the picture: >99.9% of what")
    heat = visitor.at("canvas.heat")
    red, _, blue, alpha = heat.evaluate(_COLOR_AT, [0.1, 0.1])
    assert red > blue
    assert alpha > 180
    assert heat.evaluate(_COLOR_AT, [0.9, 0.1])[3] == 0
    red, _, blue, _ = heat.evaluate(_COLOR_AT, [0.95, 0.95])
    assert blue > red
    expect_over_its_middle(visitor)


def test_it_goes_at_a_second_press_and_is_asked_for_once(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    visitor.chooses(*clothes[:2])
    visitor.sees("#stage-answer", "dress")
    why(visitor)
    visitor.sees("canvas.heat")
    why(visitor)
    visitor.sees_no("canvas.heat")
    visitor.sees_no("#heat-legend")
    why(visitor)
    visitor.sees("canvas.heat")
    assert len([url for url in visitor.requested if "/explain?" in url]) == 1
    visitor.at("#next").click()
    visitor.sees_no("canvas.heat")  # it is of the other picture


def test_below_a_prefix_with_a_key_and_for_the_model_that_is_chosen_it_is_explained_too(
    locked_site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(locked_site, "/mixer/")
    visitor.at("#key-value").fill(KEY)
    visitor.at("#key-value").press("Enter")
    visitor.sees("#chooser")
    visitor.at("#model").select_option("fashion-mnist")
    visitor.chooses(clothes[0])
    clicks = asks_until_it_is_explained(visitor)
    asked = [url for url in visitor.requested if "/explain?" in url]
    assert len(asked) == clicks
    assert all(url.startswith(f"{locked_site.origin}/mixer/explain?") for url in asked)
    assert all("model=fashion-mnist" in url for url in asked)


def test_where_nothing_speaks_for_the_label_that_is_said(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    explained(visitor, json=explanation([[0, 0], [0, 0]]))
    visitor.chooses(clothes[0])
    why(visitor)
    visitor.sees("#heat-words", "No part of the picture alone carries the label “dress”.")


@pytest.mark.parametrize("status", [404, 405])
def test_a_service_that_does_not_explain_is_not_asked_twice(
    status: int, site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    explained(visitor, status=status, json={"code": "not_found", "detail": "POST /explain is not served here."})
    visitor.chooses(*clothes[:2])
    visitor.sees("#stage-answer", "dress")
    why(visitor)
    visitor.sees("#notices", "This service does not explain its answers.")
    visitor.sees_no("#why")
    visitor.at("#next").click()
    visitor.sees("#stage-answer", "long sleeve")
    visitor.sees_no("#why")


def test_where_there_is_no_room_that_is_said_and_it_may_be_tried_again(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    detail = "400 of 512 places in the queue are taken; expected room for 65. Try again in 3 s."
    explained(visitor, status=429, headers={"Retry-After": "3"}, json={"code": "queue_full", "detail": detail})
    visitor.chooses(clothes[0])
    why(visitor)
    visitor.sees("#heat-words", detail)
    visitor.hears(detail)
    visitor.sees_no("canvas.heat")
    visitor.page.unroute_all()
    why(visitor)
    visitor.sees("canvas.heat")
    visitor.sees("#heat-words", "The label “dress” rests most on")


def test_of_an_answer_that_is_gone_nothing_is_explained(locked_site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(locked_site)
    visitor.at("#key-value").fill(KEY)
    visitor.at("#key-value").press("Enter")
    held: list[Any] = []
    visitor.page.route("**/explain?*", lambda route: held.append(route))  # noqa: PLW0108  # Playwright takes no built-in
    visitor.chooses(clothes[0])
    visitor.sees("#stage-answer", "dress")
    with visitor.page.expect_request("**/explain?*"):
        why(visitor)
    with visitor.page.expect_response("**/classify?model=fashion-mnist"):
        visitor.at("#model").select_option("fashion-mnist")
    visitor.sees("#stage-answer", re.compile("^[A-Z]"))  # as the labels of that model begin
    held[0].fulfill(json=explanation([[0.5, 0]]))
    visitor.sees("#why", "Why?")
    visitor.sees_no("#heat-legend")
    visitor.sees_no("canvas.heat")


def test_where_the_browser_turns_the_picture_otherwise_there_are_words_alone(site: Site, visit: Visit) -> None:
    picture, turned = io.BytesIO(), Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (480, 360), "gray").save(picture, "WEBP", exif=turned)
    visitor = visit(site)
    explained(visitor, json=explanation([[0.5, 0], [0, 0]]))
    visitor.chooses(("turned.webp", picture.getvalue()))
    why(visitor)
    visitor.sees("#heat-words", "The label “dress” rests most on")
    drawn = visitor.page.evaluate("() => document.querySelector('.frame img').naturalWidth") == 360
    assert visitor.at("canvas.heat").count() == int(drawn)  # a browser that turns WebP may draw
