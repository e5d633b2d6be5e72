"""What the Open Inference Protocol tells of server, models, health and counts."""

import pytest

from tests.app.dialects.wire import GREEN_PNG, expect_error
from tests.app.in_process import Serve

DURATIONS = {
    "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
}  # fmt: skip


async def test_the_server_and_its_models(serve: Serve) -> None:
    async with serve() as service:
        told = {
            path: (await service.http.get(f"/v2{path}")).json()
            for path in ("", "/models", "/models/colours", "/models/colours/versions/7", "/models/colours/config")
        }
        index = (await service.http.post("/v2/repository/index")).json()
    assert told[""]["name"] == "mixer-serve"
    assert {"statistics", "binary_tensor_data", "classification"} <= set(told[""]["extensions"])
    assert told["/models"] == {"models": ["colours"]}
    assert told["/models/colours"] == told["/models/colours/versions/7"]
    assert told["/models/colours"]["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}]
    assert told["/models/colours"]["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}]
    assert told["/models/colours"]["properties"]["labels"] == ["red", "green", "blue"]
    assert told["/models/colours/config"]["max_batch_size"] == 64
    assert told["/models/colours/config"]["input"][0]["data_type"] == "TYPE_STRING"
    assert index == [{"name": "colours", "version": "7", "state": "READY"}]


async def test_health_has_the_words_that_each_client_reads(serve: Serve) -> None:
    async with serve() as service:
        assert (await service.http.get("/v2/health/live")).json() == {"live": True}
        assert (await service.http.get("/v2/health/ready")).json() == {"ready": True, "live": True}
        for path in ("/v2/models/colours/ready", "/v2/models/colours/versions/7/ready"):
            assert (await service.http.get(path)).json() == {"name": "colours", "ready": True}
        expect_error(await service.http.get("/v2/models/flowers/ready"), 404, "this service has colours")


async def test_statistics_count_pictures_and_runs_and_have_every_figure(serve: Serve) -> None:
    headers = {"Inference-Header-Content-Length": "0"}
    async with serve() as service:
        before = (await service.http.get("/v2/models/colours/stats")).json()["model_stats"][0]
        for _ in range(3):
            assert (
                await service.http.post("/v2/models/colours/infer", content=GREEN_PNG, headers=headers)
            ).status_code == 200
        assert (await service.http.post("/v2/models/colours/infer", content=b"x", headers=headers)).status_code == 400
        (after,) = (await service.http.get("/v2/models/stats")).json()["model_stats"]
    assert set(after["inference_stats"]) == DURATIONS
    assert all(set(one) == {"count", "ns"} for one in after["inference_stats"].values())
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 3
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 3
    assert after["inference_stats"]["fail"]["count"] - before["inference_stats"]["fail"]["count"] == 1
    parts = sum(after["inference_stats"][name]["ns"] for name in ("queue", "compute_input", "compute_infer"))
    assert after["inference_stats"]["success"]["ns"] == pytest.approx(parts, abs=5)
    assert after["last_inference"] > 1_000_000_000_000  # milliseconds
    assert (after["name"], after["version"]) == ("colours", "7")
