"""Vertex AI's paths: from its variables or the settings, beside those of the service, which they never hide."""

import pytest

from app.errors import BadSettings
from app.settings import load
from tests.app.dialects.wire import BLUE_PNG, b64, expect_error
from tests.app.in_process import Serve

INSTANCES = {"instances": [{"b64": b64(BLUE_PNG)}]}


@pytest.mark.parametrize(
    ("health", "predict"),
    [
        ("/health", "/predict"),
        ("/ping", "/predictions/colours"),
        ("/v1/endpoints/1/deployedModels/2", "/v1/endpoints/1/deployedModels/2:predict"),
        ("/health/ready", "/v1/models/colours:predict"),
        ("/same", "/same"),
    ],
)
async def test_the_paths_that_it_chooses_are_answered(serve: Serve, health: str, predict: str) -> None:
    key = "a-key-of-sixteen-characters"
    async with serve(health_route=health, predict_route=predict, api_keys=key) as service:
        assert (await service.http.get(health)).status_code == 200
        expect_error(await service.http.post(predict, json=INSTANCES), 401, "no API key")
        answer = await service.http.post(predict, json=INSTANCES, headers={"X-API-Key": key})
        assert [one["label"] for one in answer.json()["predictions"]] == ["blue"]
        assert (await service.http.get("/health/ready")).json()["status"] == "ready"
        document = (await service.http.get("/openapi.json")).json()["paths"]
    assert document[predict]["post"]["operationId"] == "vertex_predict" or "{" in predict
    assert "get" in document[health]


async def test_without_the_dialect_there_are_none(serve: Serve) -> None:
    async with serve(dialects="", health_route="/h", predict_route="/p") as service:
        assert (await service.http.get("/h")).status_code == 404
        assert (await service.http.post("/p", json=INSTANCES)).status_code == 404


def test_its_variables_are_read_where_ours_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PORT": "8081", "HEALTH_ROUTE": "/h", "PREDICT_ROUTE": "/p:predict"}.items():
        monkeypatch.setenv(f"AIP_{'HTTP_' if name == 'PORT' else ''}{name}", value)
    monkeypatch.setenv("MIXER_PREDICT_ROUTE", "")
    chosen = load()
    assert (chosen.port, chosen.health_route, chosen.predict_route) == (8081, "/h", "/p:predict")
    monkeypatch.setenv("MIXER_PORT", "9001")
    monkeypatch.setenv("MIXER_HEALTH_ROUTE", "/mine")
    chosen = load(["--predict-route", "/flag"])
    assert (chosen.port, chosen.health_route, chosen.predict_route) == (9001, "/mine", "/flag")


def test_what_kubernetes_sets_for_a_service_does_not_hide_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXER_PORT", "tcp://10.0.0.1:8000")
    monkeypatch.setenv("AIP_HTTP_PORT", "8081")
    assert load().port == 8081


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/docs", "/docs begins as a path of the service itself does; expected another one."),
        ("/classify", "begins as a path of the service itself does"),
        ("/hf", "begins as a path of the service itself does"),
        ("predict", "predict is no path of plain names; expected one as /predict."),
        ("/", "is no path of plain names"),
        ("/a/../b", "is no path of plain names"),
        ("/a/", "is no path of plain names"),
        ("/{model}", "is no path of plain names"),
        ("/a b", "is no path of plain names"),
    ],
)
@pytest.mark.parametrize("option", ["HEALTH_ROUTE", "PREDICT_ROUTE"])
def test_a_path_of_the_service_itself_refuses_the_start_in_a_line(
    option: str, path: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIP_{option}", path)
    with pytest.raises(BadSettings) as refused:
        load()
    assert str(refused.value).startswith(f"MIXER_{option} is '{path}': ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
