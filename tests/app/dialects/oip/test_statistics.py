"""What the statistics of a model add up to is what every request about one picture was told in Server-Timing."""

import re
from typing import Any

import httpx
import pytest

from tests.app.dialects.wire import BLUE_PNG, GREEN_PNG, RED_PNG, b64
from tests.app.in_process import Serve, Service

STATS = "/v2/models/colours/stats"
STAGES = {"queue": "queue", "compute_input": "decode", "compute_infer": "infer"}
ROUNDED_NS = 5_000  # Server-Timing has hundredths of a millisecond


def in_json(picture: bytes) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [b64(picture)]}]}


async def told(service: Service) -> dict[str, int]:
    """Nanoseconds of all requests so far, by name."""
    (model,) = (await service.http.get(STATS)).json()["model_stats"]
    return {name: one["ns"] for name, one in model["inference_stats"].items()}


def stages_of(answer: httpx.Response) -> dict[str, float]:
    return {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([0-9.]+)", answer.headers["server-timing"])}


async def test_the_breakdown_adds_up_to_what_server_timing_said(serve: Serve) -> None:
    async with serve() as service:
        before = await told(service)
        answers = [
            await service.http.post("/classify", content=RED_PNG),
            await service.http.post("/v2/models/colours/infer", json=in_json(GREEN_PNG)),
            await service.http.post("/predictions/colours", content=BLUE_PNG),
            await service.http.post("/hf", content=GREEN_PNG, headers={"content-type": "image/png"}),
        ]
        refused = await service.http.post("/classify", content=b"no picture")
        after = await told(service)
    assert [one.status_code for one in answers] == [200] * len(answers)
    assert refused.status_code == 400, refused.text
    timings = [stages_of(one) for one in answers]
    parts = {name: after[name] - before[name] for name in STAGES}
    for name, stage in STAGES.items():
        shown = sum(timing[stage] for timing in timings) * 1e6
        assert 0 < parts[name] == pytest.approx(shown, abs=ROUNDED_NS * len(timings)), name
    assert sum(parts.values()) == pytest.approx(after["success"] - before["success"], abs=len(parts))
