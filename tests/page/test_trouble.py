"""The service is busy, away, locked or broken: the page says so, loses no picture, and goes on."""

from typing import Any

import pytest

from tests.page.conftest import KEY, Site, Visit
from tests.page.visitor import File, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.process]


def problem(status: int, code: str, detail: str, **headers: str) -> dict[str, Any]:
    """An answer of a stand-in for the service."""
    return {"status": status, "json": {"status": status, "code": code, "detail": detail}, "headers": headers}


def refusing(visitor: Visitor, count: int, answer: dict[str, Any]) -> list[str]:
    """The first `count` pictures get this answer. Returns the list that grows with every request."""
    asked: list[str] = []

    def answered(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(**answer) if len(asked) <= count else route.continue_()

    visitor.page.route("**/classify", answered)
    return asked


def unlock(visitor: Visitor, key: str) -> None:
    visitor.at("#key-value").fill(key)
    visitor.page.get_by_role("button", name="Use this key").click()


def test_a_busy_service_is_asked_again_when_it_says(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    visitor.page.clock.install()
    asked = refusing(visitor, 1, problem(429, "queue_full", "No room.", **{"Retry-After": "40"}))
    visitor.chooses(clothes[0])
    visitor.sees("#notices", "The service is busy. What has no answer yet waits. Next try in 40 s.")
    visitor.sees("#stage-answer", "Waiting")
    visitor.page.clock.fast_forward(39_000)
    visitor.sees("#notices", "Next try in 1 s.")
    assert len(asked) == 1
    visitor.page.clock.fast_forward(1_001)
    visitor.sees("#stage-answer", "dress")
    visitor.sees_no("#notices .notice")
    assert len(asked) == 2


def test_what_is_told_late_of_the_model_takes_no_notice_away(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    held: list[Any] = []
    visitor.page.route("**/models", lambda route: held.append(route))  # noqa: PLW0108  # Playwright takes no built-in
    refusing(visitor, 1, problem(429, "queue_full", "No room.", **{"Retry-After": "600"}))
    visitor.opens()
    visitor.chooses(clothes[0])
    visitor.sees("#notices", "The service is busy.")
    held[0].continue_()
    visitor.sees("#version", "clothes 1")
    visitor.sees("#notices", "The service is busy.")


def test_who_does_not_want_to_wait_asks_again_at_once(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    refusing(visitor, 1, problem(503, "not_ready", "Draining.", **{"Retry-After": "600"}))
    visitor.chooses(clothes[0])
    visitor.page.get_by_role("button", name="Try now").click()
    visitor.sees("#stage-answer", "dress")


def test_a_service_with_room_for_one_answers_twelve_all_the_same(
    locked_site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(locked_site)
    unlock(visitor, KEY)
    visitor.sees("#chooser")
    visitor.chooses(*clothes, *((f"again-{name}", content) for name, content in clothes))
    visitor.answers_are_in(12)


def test_a_key_alone_says_who_asks(locked_site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(locked_site)
    unlock(visitor, KEY)
    visitor.sees("#chooser")
    with visitor.page.expect_request("**/classify*") as asked:
        visitor.chooses(clothes[0])
    assert asked.value.headers["authorization"] == f"Bearer {KEY}"
    assert "x-client-id" not in asked.value.headers
    visitor.sees("#stage-answer", "dress")


def test_what_was_said_of_a_key_that_is_used_no_more_says_nothing_of_the_next(
    locked_site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(locked_site)
    unlock(visitor, KEY)
    visitor.sees("#forget")
    held: list[Any] = []

    def hold_first(route: Any) -> None:
        route.continue_() if held else held.append(route)

    visitor.page.route("**/classify*", hold_first)
    visitor.chooses(clothes[0])
    visitor.waits_until(lambda: len(held) == 1)
    visitor.at("#forget").click()
    unlock(visitor, KEY)
    visitor.sees("#forget")
    held[0].fulfill(**problem(401, "unauthorized", "No such key."))
    visitor.sees("#stage-answer", "dress")
    visitor.sees_no("#key")


def test_a_locked_service_gets_its_key_which_is_kept_nowhere(
    locked_site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(locked_site)
    visitor.sees("#key", "This service asks for a key")
    visitor.chooses(clothes[0])
    visitor.sees("#stage-answer", "Waiting")
    unlock(visitor, "no key")
    visitor.sees("#key-error", "A key has letters, digits and signs, and no spaces.")
    unlock(visitor, "another-key-of-somebody-else")
    visitor.sees("#key-error", "The service does not take this key.")
    unlock(visitor, KEY)
    visitor.sees("#stage-answer", "dress")
    visitor.sees_no("#key")
    visitor.at("#curl summary").click()
    visitor.sees("#command", '-H "Authorization: Bearer $API_KEY"')
    assert KEY not in visitor.page.content()
    assert visitor.at("#key-value").input_value() == ""
    assert not any(KEY in url for url in visitor.requested)
    assert visitor.page.context.storage_state(indexed_db=True) == {"cookies": [], "origins": []}
    visitor.opens()
    visitor.sees("#key")  # it was gone with the page


def test_a_key_is_forgotten_on_request(locked_site: Site, visit: Visit) -> None:
    visitor = visit(locked_site)
    unlock(visitor, KEY)
    visitor.sees_no("#key")
    visitor.page.get_by_role("button", name="Forget the key").click()
    visitor.sees("#key")
    visitor.sees_no("#forget")


def test_below_a_prefix_everything_is_found(locked_site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(locked_site, "/mixer/")
    unlock(visitor, KEY)
    visitor.chooses(clothes[0])
    visitor.sees("#stage-answer", "dress")
    paths = {url.removeprefix(locked_site.origin) for url in visitor.requested if not url.startswith("blob:")}
    assert all(path.startswith("/mixer/") for path in paths)
    assert f"{locked_site.origin}/mixer/classify" in (visitor.at("#command").text_content() or "")


def test_offline_pictures_wait_and_are_answered_when_the_network_is_back(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    visitor.page.context.set_offline(True)
    visitor.chooses(*clothes)
    visitor.sees("#count", "0 answered · 6 to come")
    visitor.sees("#notices", "The service cannot be reached. What has no answer yet waits, and nothing is lost.")
    visitor.page.context.set_offline(False)
    visitor.answers_are_in(6)
    visitor.sees_no("#notices .notice")


def test_a_service_that_is_away_is_asked_again_by_hand(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    for path in ("**/classify", "**/health/live"):
        visitor.page.route(path, lambda route: route.abort("connectionrefused"))
    visitor.chooses(clothes[0])
    visitor.sees("#notices", "The service cannot be reached.")
    visitor.page.unroute_all()
    visitor.page.get_by_role("button", name="Try again").click()
    visitor.sees("#stage-answer", "dress")


def test_one_connection_that_breaks_off_is_told_of_its_picture_alone(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    visitor.page.route("**/classify", lambda route: route.abort("connectionreset"))
    visitor.chooses(clothes[0])
    visitor.sees("#stage-body", "The connection broke off while the picture was on its way.")
    visitor.page.unroute_all()
    visitor.page.get_by_role("button", name="Try again").click()
    visitor.sees("#stage-answer", "dress")


def test_an_error_of_the_service_is_shown_in_its_own_words(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    refusing(visitor, 1, problem(500, "inference_failed", "The engine failed on <b>this</b> picture."))
    visitor.chooses(clothes[0])
    visitor.sees("#stage-body", "The engine failed on <b>this</b> picture.")
    visitor.hears("No answer. The engine failed")


def test_an_answer_that_is_no_json_is_told_by_its_status(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    refusing(visitor, 1, {"status": 502, "body": "<h1>Bad gateway</h1>", "content_type": "text/html"})
    visitor.chooses(clothes[0])
    visitor.sees("#stage-body", "The service answered with status 502.")


def test_what_was_removed_while_it_waited_does_not_come_back(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    visitor.page.route("**/classify", lambda route: None)  # no answer ever comes
    with visitor.page.expect_request("**/classify"):
        visitor.chooses(clothes[0])
    visitor.at("#remove").click()
    visitor.sees_no("#results")
    visitor.page.unroute_all(behavior="ignoreErrors")
    visitor.chooses(clothes[4])
    visitor.sees("#stage-answer", "skirt")
    visitor.sees_no("#list")


def test_what_breaks_the_policy_is_noticed_by_these_tests(site: Site, visit: Visit) -> None:
    visitor = visit(site)
    visitor.page.evaluate("() => { document.body.setAttribute('style', 'color: red'); }")
    with visitor.page.expect_console_message(lambda message: "refused by the policy: style-src" in message.text):
        visitor.page.evaluate("() => { document.body.setAttribute('style', 'color: blue'); }")
    assert visitor.wrong != []
    visitor.wrong.clear()


NO_ANSWERS = [{}, {"predictions": []}, [], "x", {"predictions": [{"label": None, "index": 0, "probability": "x"}]}]


@pytest.mark.parametrize("body", NO_ANSWERS, ids=str)
def test_an_answer_of_somebody_else_spoils_only_its_own_line(
    body: Any, site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    refusing(visitor, 1, {"status": 200, "json": body})
    visitor.chooses(*clothes[:3])
    visitor.sees("#count", "2 answered · 1 without an answer")
    visitor.page.get_by_role("button", name="dress.jpg").click()
    visitor.sees("#stage-body", "The answer is none of this service.")


def test_an_error_of_another_shape_is_told_by_its_status(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    refusing(visitor, 1, {"status": 422, "json": {"detail": [{"msg": "wrong"}]}})
    visitor.chooses(clothes[0])
    visitor.sees("#stage-body", "The service answered with status 422.")


def test_what_waits_is_asked_for_when_all_that_is_on_its_way_is_removed(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    on_their_way: list[Any] = []

    def held(route: Any) -> None:
        on_their_way.append(route)
        if len(on_their_way) > 4:
            route.continue_()

    visitor.page.route("**/classify", held)
    visitor.chooses(*((f"{number}.jpg", clothes[0][1]) for number in range(6)))
    visitor.waits_until(lambda: len(on_their_way) == 4)
    visitor.sees_rows(*["looking"] * 4, *["waiting"] * 2)
    for left in (5, 4, 3, 2):
        visitor.at("#remove").click()
        visitor.sees("#list-title", f"{left} pictures")
    visitor.answers_are_in(2)


def test_a_service_that_says_to_come_at_once_is_not_asked_without_pause(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    visitor.page.clock.install()
    for told in ("0", "-5", "1.5"):
        asked = refusing(visitor, 1, problem(429, "queue_full", "No room.", **{"Retry-After": told}))
        visitor.chooses(clothes[0])
        visitor.sees("#notices", "Next try in 1 s.")
        assert len(asked) == 1
        visitor.at("#clear" if visitor.at("#clear").is_visible() else "#remove").click()
        visitor.sees_no("#results")


def test_of_two_models_the_one_that_was_chosen_last_is_told_of(locked_site: Site, visit: Visit) -> None:
    visitor = visit(locked_site)
    unlock(visitor, KEY)
    held: list[Any] = []
    visitor.page.route("**/model?model=fashion-mnist", lambda route: held.append(route))  # noqa: PLW0108
    with visitor.page.expect_request("**/model?model=fashion-mnist"):
        visitor.at("#model").select_option("fashion-mnist")
    with visitor.page.expect_response("**/model?model=clothes"):
        visitor.at("#model").select_option("clothes")
    with visitor.page.expect_response("**/model?model=fashion-mnist"):
        held[0].continue_()
    visitor.page.evaluate("() => new Promise(requestAnimationFrame)")
    visitor.sees("#version", "clothes 1")
