"""POST /explain: bodies as of /classify, numbers or a PNG, refusals."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.engine.engine import Engine
from tests.app.api.test_openapi import expect_valid
from tests.app.color_bundle import RED, color_spec, image
from tests.app.fakes import FakeSession, engine_of, means_of_colors
from tests.app.in_process import Serve
from tests.app.problem_answers import expect_problem

SPEC = color_spec(canary=None)
KEY = "a-key-of-sixteen-characters"


def half_red() -> bytes:
    """Red on the left, black on the right, 80 x 40."""
    pixels = np.zeros((40, 80, 3), dtype=np.uint8)
    pixels[:, :40, 0] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def engine() -> Engine:
    return engine_of(FakeSession(SPEC, means_of_colors), SPEC)


async def test_a_body_or_a_form_gets_a_number_for_each_patch(serve: Serve) -> None:
    async with serve(engine()) as service:
        raw = await service.http.post("/explain", content=half_red())
        form = await service.http.post("/explain", files={"file": ("a.png", half_red())})
        document = (await service.http.get("/openapi.json")).json()
    assert raw.status_code == form.status_code == 200
    body: dict[str, Any] = raw.json()
    assert form.json() == body
    described = document["paths"]["/explain"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    expect_valid(body, described, document)
    ((left, right), lower) = body["grid"]["values"]
    assert left == pytest.approx(-right, abs=0.02)
    assert left == pytest.approx(127 / 255 * 10 / 4, rel=0.05)  # hidden, it has the mean color
    assert lower == pytest.approx([left, right])
    assert body["target"]["label"] == "red"
    assert body["region"] == {"left": 0, "top": 0, "right": 80, "bottom": 40, "width": 80, "height": 40, "turned": 0}
    told = ("model", "method", "baseline", "unit", "runs")
    assert [body[name] for name in told] == [
        {"name": "colours", "version": "7", "precision": "fp32"}, "occlusion", "mean", "logit", 5,
    ]  # fmt: skip
    timing = raw.headers["server-timing"]
    assert all(stage in timing for stage in ("receive;dur=", "decode;dur=", "queue;dur=", "infer;dur="))
    assert raw.headers["vary"] == "Accept"


async def test_parameters_choose_target_method_and_baseline(serve: Serve) -> None:
    async with serve(engine()) as service:
        answer = await service.http.post(
            "/explain?target=green&method=rise&baseline=border&model=colours", content=half_red()
        )
    body = answer.json()
    assert (body["target"]["label"], body["target"]["index"]) == ("green", 1)
    assert (body["method"], body["baseline"], body["runs"]) == ("rise", "border", 129)


@pytest.mark.parametrize("accept", ["image/png", "text/html;q=0.5, image/*", "application/json;q=0.1, image/png"])
async def test_whoever_prefers_a_png_gets_the_picture_with_the_numbers_over_it(serve: Serve, accept: str) -> None:
    async with serve(engine()) as service:
        answer = await service.http.post("/explain", content=half_red(), headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["vary"] == "Accept"
    shown = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    assert shown.shape == (384, 768, 3)
    assert shown[200, 700, 2] > shown[200, 700, 0] + 100  # black speaks against red


@pytest.mark.parametrize("accept", ["*/*", "application/json", "image/png;q=0.5, application/json", ""])
async def test_anybody_else_gets_numbers(serve: Serve, accept: str) -> None:
    async with serve(engine()) as service:
        answer = await service.http.post("/explain", content=half_red(), headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("target=gren", "target is 'gren'; expected a label of the model, such as 'green', or an index from 0 to 2."),
        ("method=lime", "method is 'lime'; expected occlusion or rise."),
        ("baseline=black", "baseline is 'black'; expected mean or border or blur."),
        ("taget=red", "The query has 'taget'; expected target."),
    ],
)
async def test_what_there_is_not_is_refused(serve: Serve, query: str, detail: str) -> None:
    async with serve(engine()) as service:
        answer = await service.http.post(f"/explain?{query}", content=half_red())
    expect_problem(answer, 422, "bad_parameter", detail)


async def test_other_refusals_are_those_of_classify(serve: Serve) -> None:
    async with serve(engine(), api_keys=KEY) as service:
        post = service.http.post
        expect_problem(await post("/explain", content=half_red()), 401, "bad_api_key")
        service.http.headers["X-API-Key"] = KEY
        expect_problem(await post("/explain?model=x", content=half_red()), 404, "unknown_model")
        expect_problem(await post("/explain", content=b"hello"), 400, "bad_picture")
        expect_problem(await post("/explain", json={}), 415, "unsupported_format")
        headers = {"X-Request-Timeout-Ms": "-1"}
        expect_problem(await post("/explain", content=half_red(), headers=headers), 422, "bad_parameter")
        assert (await service.http.get("/explain")).status_code == 405
        samples = service.metrics.samples()
    assert samples['mixer_explanations_total{method="occlusion",outcome="bad_picture"}'] == 1
    assert samples["mixer_explanation_rows_total"] == 0
    assert not any(name.startswith("mixer_images_total") and value for name, value in samples.items())


async def test_explanations_and_their_rows_are_counted(serve: Serve) -> None:
    async with serve(engine()) as service:
        await service.http.post("/explain", content=half_red())
        await service.http.post("/explain", content=image(RED))
        await service.http.post("/explain?method=rise", content=image(RED))
        samples = service.metrics.samples()
    assert samples['mixer_explanations_total{method="occlusion",outcome="explained"}'] == 2
    assert samples['mixer_explanations_total{method="rise",outcome="explained"}'] == 1
    assert samples["mixer_explanation_rows_total"] == 5 + 5 + 129
    assert samples["mixer_in_flight"] == 0


async def test_one_for_which_there_is_no_time_is_refused(serve: Serve) -> None:
    async with serve(engine()) as service:
        answer = await service.http.post("/explain", content=half_red(), headers={"X-Request-Timeout-Ms": "0.001"})
    assert answer.status_code in (429, 504)
