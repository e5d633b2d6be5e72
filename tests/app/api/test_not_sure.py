"""Answers that say whether they are sure, and sets of labels: of a model that can, of one that cannot, and refused."""

import math
from typing import Any

import httpx
import pytest

from app.engine.engine import Engine
from model.spec import Conformal, ModelSpec
from tests.app.api.test_openapi import expect_valid
from tests.app.color_bundle import RED, color_spec, image
from tests.app.fakes import FakeSession, engine_of, means_of_colors
from tests.app.in_process import Serve
from tests.app.problem_answers import expect_problem

PLAIN = color_spec(canary=None)
CONFORMAL = Conformal(data_set="colours, validation", num_pictures=4, scores=(0.1, 0.2, 0.6, 0.9))
SURE = color_spec(canary=None, energy_threshold=8.0, conformal=CONFORMAL)
GREY, MAGENTA = (51, 51, 51), (255, 0, 255)  # logits 2, 2, 2 and 10, 0, 10
PATHS = ("/classify", "/classify/batch")


def engine(spec: ModelSpec) -> Engine:
    return engine_of(FakeSession(spec, means_of_colors), spec)


async def asked(http: httpx.AsyncClient, target: str, color: Any = RED) -> dict[str, Any]:
    """What one picture is told, by either endpoint, beside its file's name and the model."""
    answer = await http.post(target, files={"file": ("a.png", image(color))})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    told: dict[str, Any] = body["results"][0] if "results" in body else body
    return {key: value for key, value in told.items() if key not in ("model", "filename", "predictions")}


@pytest.mark.parametrize("path", PATHS)
async def test_a_model_with_a_threshold_says_whether_it_is_sure(path: str, serve: Serve) -> None:
    async with serve(engine(SURE)) as service:
        red, grey = await asked(service.http, path), await asked(service.http, path, GREY)
        assert red == {"uncertain": False, "energy": pytest.approx(math.log(math.exp(10) + 2), rel=1e-6)}
        assert grey == {"uncertain": True, "energy": pytest.approx(2 + math.log(3), rel=1e-6)}
        assert service.metrics.samples()["mixer_uncertain_total"] == 1


@pytest.mark.parametrize("path", PATHS)
async def test_a_model_from_before_says_nothing_unless_it_is_given_a_threshold(path: str, serve: Serve) -> None:
    async with serve(engine(PLAIN)) as service:
        assert await asked(service.http, path, GREY) == {}
        assert await asked(service.http, f"{path}?top_k=1", GREY) == {}
        told = await asked(service.http, f"{path}?threshold=3.5", GREY)
        assert told == {"uncertain": True, "energy": pytest.approx(2 + math.log(3), rel=1e-6)}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("threshold", "uncertain"), [("11", True), ("-2.5e1", False), ("0", False)])
async def test_a_request_may_have_its_own_threshold(path: str, threshold: str, uncertain: bool, serve: Serve) -> None:
    async with serve(engine(SURE)) as service:
        assert (await asked(service.http, f"{path}?threshold={threshold}"))["uncertain"] is uncertain
        assert service.metrics.samples()["mixer_uncertain_total"] == uncertain


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("coverage", "labels"), [(0.1, ["red"]), (0.5, ["red", "blue"]), (0.95, ["red", "blue", "green"])]
)
async def test_a_set_of_the_coverage_that_is_asked_for(
    path: str, coverage: float, labels: list[str], serve: Serve
) -> None:
    async with serve(engine(SURE)) as service:
        told = await asked(service.http, f"{path}?set={coverage}&top_k=1", MAGENTA)
    assert told["set"] == {"coverage": coverage, "labels": labels}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("threshold=low", "threshold is 'low': Input should be a valid number"),
        ("threshold=", "threshold is '': Input should be a valid number"),
        ("threshold=nan", "threshold is nan; expected a finite number."),
        ("threshold=1e999", "threshold is inf; expected a finite number."),
        ("set=0", "set is 0.0; expected a coverage above 0 and below 1."),
        ("set=1", "set is 1.0; expected a coverage above 0 and below 1."),
        ("set=95", "set is 95.0; expected a coverage above 0 and below 1."),
        ("set=nan", "set is nan; expected a coverage above 0 and below 1."),
        ("set=most", "set is 'most': Input should be a valid number"),
    ],
)
async def test_impossible_values_are_refused(path: str, query: str, words: str, serve: Serve) -> None:
    async with serve(engine(SURE)) as service:
        answer = await service.http.post(f"{path}?{query}", files={"file": ("a.png", image(RED))})
        expect_problem(answer, 422, "bad_parameter", words)
        assert (await asked(service.http, path))["uncertain"] is False


@pytest.mark.parametrize("path", PATHS)
async def test_a_model_without_scores_is_asked_for_a_set(path: str, serve: Serve) -> None:
    async with serve(engine(PLAIN)) as service:
        answer = await service.http.post(f"{path}?set=0.9", files={"file": ("a.png", image(RED))})
        expect_problem(answer, 422, "bad_parameter", "set is 0.9; this model has no scores to make sets of")
        assert await asked(service.http, path) == {}


async def test_a_bad_picture_of_a_batch_is_not_uncertain_but_an_error(serve: Serve) -> None:
    files = [("file", ("a.png", image(GREY))), ("file", ("b.png", b"no picture"))]
    async with serve(engine(SURE)) as service:
        good, bad = (await service.http.post("/classify/batch", files=files)).json()["results"]
        assert good["uncertain"] is True
        assert set(bad) == {"filename", "error"}
        assert service.metrics.samples()["mixer_uncertain_total"] == 1


async def test_the_model_tells_its_threshold_and_what_sets_rest_on(serve: Serve) -> None:
    async with serve(engine(SURE)) as service:
        shown = (await service.http.get("/model")).json()
        document = (await service.http.get("/openapi.json")).json()
    assert shown["spec"]["energy_threshold"] == 8.0
    assert shown["sets"] == {"data_set": "colours, validation", "num_pictures": 4}
    assert "conformal" not in shown["spec"]
    schema = document["paths"]["/model"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    expect_valid(shown, schema, document)
    async with serve(engine(PLAIN)) as service:
        shown = (await service.http.get("/model")).json()
    assert (shown["spec"]["energy_threshold"], shown["sets"]) == (None, None)


@pytest.mark.parametrize("path", PATHS)
async def test_such_answers_are_described(path: str, serve: Serve) -> None:
    async with serve(engine(SURE)) as service:
        document = (await service.http.get("/openapi.json")).json()
        answer = await service.http.post(f"{path}?set=0.5&threshold=9", files={"file": ("a.png", image(MAGENTA))})
    schema = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    expect_valid(answer.json(), schema, document)
