"""Why a label: a map over the picture, and the same in words. A stand-in explains."""

from typing import Any

import pytest

from tests.page.conftest import Site, Visit
from tests.page.visitor import File, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.process]

_ALPHA_AT = """(canvas, [x, y]) => {
    const at = (share, size) => Math.min(size - 1, Math.floor(share * size));
    return [...canvas.getContext("2d").getImageData(at(x, canvas.width), at(y, canvas.height), 1, 1).data];
}"""


def explanation(values: list[list[float]]) -> dict[str, Any]:
    """Of dress.jpg, 360 x 480: the square in its middle is what the model sees."""
    return {
        "model": {"name": "clothes", "version": "1", "precision": "int8"},
        "method": "occlusion",
        "baseline": "mean",
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


def test_the_map_lies_over_what_the_model_has_seen_and_is_told_in_words(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    asked = explained(visitor, json=explanation([[0.5, 0, 0], [0, 0, 0], [0, 0, -0.25]]))
    visitor.chooses(clothes[0])
    why(visitor)
    visitor.sees("#heat-words", "The label “dress” rests most on the upper left of the picture: >99.9% of what")
    visitor.hears("rests most on the upper left")
    assert visitor.at("#why").get_attribute("aria-pressed") == "true"
    heat, picture = visitor.at("canvas.heat"), visitor.at(".frame img")
    red, _, blue, alpha = heat.evaluate(_ALPHA_AT, [0.1, 0.1])
    assert red > blue
    assert alpha > 180
    assert heat.evaluate(_ALPHA_AT, [0.9, 0.1])[3] == 0
    red, _, blue, _ = heat.evaluate(_ALPHA_AT, [0.95, 0.95])
    assert blue > red
    drawn, shown = heat.bounding_box(), picture.bounding_box()
    assert drawn is not None
    assert shown is not None
    assert (drawn["x"], drawn["width"]) == pytest.approx((shown["x"], shown["width"]), abs=1)
    assert drawn["height"] / shown["height"] == pytest.approx(0.75, abs=0.01)
    assert (drawn["y"] - shown["y"]) / shown["height"] == pytest.approx(0.125, abs=0.01)
    assert asked[0].url.endswith("/explain?target=0&method=occlusion&baseline=mean")
    assert asked[0].post_data_buffer == clothes[0][1]


def test_it_goes_at_a_second_press_and_is_asked_for_once(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    asked = explained(visitor, json=explanation([[0, 1], [0, 1]]))
    visitor.chooses(*clothes[:2])
    visitor.sees("#stage-answer", "dress")
    why(visitor)
    visitor.sees("canvas.heat")
    why(visitor)
    visitor.sees_no("canvas.heat")
    visitor.sees_no("#heat-legend")
    why(visitor)
    visitor.sees("canvas.heat")
    assert len(asked) == 1
    visitor.at("#next").click()
    visitor.sees_no("canvas.heat")  # it is of the other picture


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


def test_what_went_wrong_is_said_and_may_be_tried_again(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    explained(visitor, status=429, json={"code": "queue_full", "detail": "No room for 64 more pictures."})
    visitor.chooses(clothes[0])
    why(visitor)
    visitor.sees("#heat-words", "No room for 64 more pictures.")
    visitor.sees_no("canvas.heat")
    visitor.page.unroute_all()
    explained(visitor, json=explanation([[1, 0], [0, 0]]))
    why(visitor)
    visitor.sees("canvas.heat")
