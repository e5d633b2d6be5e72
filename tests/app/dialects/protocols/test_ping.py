"""GET /ping: ready or not, without a key, and once however many protocols have it."""

import numpy as np
import pytest

from tests.app.color_bundle import color_spec
from tests.app.fakes import FakeSession, engine_of, means_of_colors
from tests.app.in_process import Serve

KEY = "a-key-of-sixteen-characters"


@pytest.mark.parametrize("dialects", ["torchserve", "sagemaker", "all"])
async def test_a_service_that_is_ready_is_healthy_without_a_key(serve: Serve, dialects: str) -> None:
    async with serve(dialects=dialects, api_keys=KEY) as service:
        answer = await service.http.get("/ping")
        document = (await service.http.get("/openapi.json")).json()
    assert (answer.status_code, answer.json()) == (200, {"status": "Healthy"})
    assert answer.headers["content-type"] == "application/json"
    operation = document["paths"]["/ping"]["get"]
    assert (operation["operationId"], sorted(operation["responses"])) == ("ping", ["200", "500", "503"])


async def test_one_that_answers_wrongly_is_not(serve: Serve) -> None:
    spec = color_spec()
    drifting = FakeSession(spec, lambda patches: means_of_colors(patches) + np.float32(1))
    async with serve(engine_of(drifting, spec)) as service:
        answer = await service.http.get("/ping")
    assert (answer.status_code, answer.json()) == (503, {"status": "Unhealthy"})


async def test_without_a_protocol_that_has_it_there_is_none(serve: Serve) -> None:
    async with serve(dialects="kserve") as service:
        assert (await service.http.get("/ping")).status_code == 404
