"""What answers mean."""

import json
import math
import pickle
import struct
from base64 import b64encode

import httpx
import pytest

from app import errors as services
from app.inference.scores import NoEmbedding
from mixer_client import errors, parsing
from mixer_client.answers import LabelSet, ModelInfo, ModelName, Prediction
from tests.mixer_client.stand_in import CLASSIFIED, TIMING, classified, problem

REQUEST = httpx.Request("POST", "http://service/classify")
EXPLAINED = {
    "model": {"name": "colours", "version": "7", "precision": "fp32"},
    "method": "occlusion",
    "baseline": "mean",
    "unit": "logit",
    "runs": 3,
    "target": {"label": "red", "index": 0, "probability": 0.9},
    "grid": {"rows": 1, "columns": 2, "values": [[0.5, -0.25]]},
    "region": {"left": 0, "top": 1, "right": 7, "bottom": 8, "width": 9, "height": 10},
}


def asked(answer: httpx.Response) -> httpx.Response:
    answer.request = REQUEST
    return answer


def test_a_classification_has_all_that_is_answered() -> None:
    found = parsing.classification_of(
        asked(classified(uncertain=True, energy=-1.5, set={"coverage": 0.9, "labels": ["red", "blue"]}))
    )
    assert found.model == ModelName("colours", "7", "fp32")
    assert found.predictions == (Prediction("red", 0, 0.9), Prediction("blue", 2, 0.1))
    assert (found.label, found.probability) == ("red", 0.9)
    assert (found.uncertain, found.energy, found.set) == (True, -1.5, LabelSet(0.9, ("red", "blue")))
    assert found.request_id == "id-1"
    assert found.timing == {"receive": 0.05, "decode": 0.4, "queue": 0.1, "infer": 1.2, "total": 2.0}
    assert found.batch_size == 3


def test_what_is_not_answered_is_none() -> None:
    found = parsing.classification_of(asked(httpx.Response(200, json=CLASSIFIED)))
    assert (found.uncertain, found.energy, found.set) == (None, None, None)
    assert (found.request_id, found.timing, found.batch_size) == ("", {}, None)


def test_an_explanation_has_all_that_is_answered() -> None:
    found = parsing.explanation_of(asked(httpx.Response(200, json=EXPLAINED, headers={"Server-Timing": TIMING})))
    assert (found.method, found.baseline, found.target) == ("occlusion", "mean", Prediction("red", 0, 0.9))
    assert (found.unit, found.runs) == ("logit", 3)
    assert (found.grid.rows, found.grid.columns, found.grid.values) == (1, 2, ((0.5, -0.25),))
    region = found.region
    assert (region.left, region.top, region.right, region.bottom, region.width, region.height) == (0, 1, 7, 8, 9, 10)
    assert found.timing["total"] == 2.0


def test_the_models_are_told_with_the_default() -> None:
    one = {"name": "a", "model": "b", "version": "1", "precision": "int8", "num_classes": 10, "ready": True}
    found = parsing.models_of(asked(httpx.Response(200, json={"default": "a", "models": [one]})))
    assert found.default == "a"
    assert found.models == (ModelInfo("a", "b", "1", "int8", 10, True),)


def test_an_embedding_is_read_from_little_endian_floats() -> None:
    text = b64encode(struct.pack("<2f", 0.6, -0.8)).decode()
    found = parsing.embedding_of(asked(httpx.Response(200, json={"data": [{"embedding": text}]})))
    assert found.typecode == "f"
    assert math.isclose(found[1], -0.8, rel_tol=1e-6)
    assert len(found) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"<html>", b"", b"[]", b"null", b"{}", b"\xff",
        json.dumps({**CLASSIFIED, "predictions": []}).encode(),
        json.dumps({**CLASSIFIED, "predictions": [{"label": "red"}]}).encode(),
        json.dumps({**CLASSIFIED, "model": "a"}).encode(),
        json.dumps({**CLASSIFIED, "predictions": [{"label": "a", "index": math.inf, "probability": 1}]}).encode(),
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_answer_of_this_service_is_a_bad_answer(content: bytes) -> None:
    with pytest.raises(errors.BadAnswer, match=r"^/classify answers .*; expected the JSON of mixer-serve\.$"):
        parsing.classification_of(asked(httpx.Response(200, content=content)))


def test_an_output_of_the_open_inference_protocol_is_read_as_it_is() -> None:
    outputs = {"outputs": [{"data": [3, -4.5]}]}
    found = parsing.raw_embedding_of(asked(httpx.Response(200, json=outputs)))
    assert (found.values.typecode, list(found.values), found.model) == ("f", [3.0, -4.5], None)
    told = {"model_version": "7", "parameters": {"model": "colours", "precision": "int8"}}
    found = parsing.raw_embedding_of(asked(httpx.Response(200, json={**told, **outputs})))
    assert found.model == ModelName("colours", "7", "int8")


def test_a_bad_embedding_is_a_bad_answer() -> None:
    with pytest.raises(errors.BadAnswer):
        parsing.embedding_of(asked(httpx.Response(200, json={"data": [{"embedding": "AAA"}]})))
    for outputs in ([], [{"data": None}], [{"data": ["a"]}]):
        with pytest.raises(errors.BadAnswer):
            parsing.raw_embedding_of(asked(httpx.Response(200, json={"outputs": outputs})))


@pytest.mark.parametrize(
    ("told", "timing"),
    [
        ('app;dur=5.5;desc="x"', {"app": 5.5}),
        ('db; desc="x"; dur="1.5"', {"db": 1.5}),
        ("a;dur=b, x;dur, miss", {}),
        ('batch;desc="many"', {}),
    ],
)
def test_timings_of_a_proxy_spoil_no_answer(told: str, timing: dict[str, float]) -> None:
    headers = {"Server-Timing": f"total;dur=2.00, {told}"}
    found = parsing.classification_of(asked(httpx.Response(200, json=CLASSIFIED, headers=headers)))
    assert found.timing == {"total": 2.0, **timing}
    assert found.batch_size is None


def services_errors() -> list[type[services.ServiceError]]:
    found = [NoEmbedding]
    for kind in services.ServiceError.__subclasses__():
        found += [kind, *kind.__subclasses__()]
    return found


WITHOUT_A_CLASS = {"head_too_large", "unknown_transfer_coding", "no_card", "reload_refused"}  # no method leads there


@pytest.mark.parametrize("kind", services_errors(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_service_has_a_class_of_its_own(kind: type[services.ServiceError]) -> None:
    known = errors.class_of(kind.code)
    assert (known is errors.ServiceError) == (kind.code in WITHOUT_A_CLASS)
    error = parsing.error_of(problem(kind.status, kind.code, "Too much.", Retry_After="7"))
    assert type(error) is known
    assert (error.code, error.status, error.detail) == (kind.code, kind.status, "Too much.")
    assert (error.request_id, error.retry_after_s) == ("id-2", 7.0)
    assert str(error) == f"{kind.status} {kind.code}: Too much."


def test_an_error_in_openais_form_is_understood() -> None:
    body = {"error": {"message": "No such model.", "type": "invalid_request_error", "code": "model_not_found"}}
    error = parsing.error_of(httpx.Response(404, json=body))
    assert isinstance(error, errors.UnknownModel)
    assert error.detail == "No such model."


@pytest.mark.parametrize("content", [b"<h1>Bad gateway</h1>", b"[]", b'{"error": "x"}'])
def test_an_error_of_somebody_between_keeps_its_status_and_text(content: bytes) -> None:
    error = parsing.error_of(httpx.Response(502, content=content))
    assert type(error) is errors.ServiceError
    assert (error.code, error.status, error.detail) == ("http_error", 502, content.decode())


@pytest.mark.parametrize("charset", ["hex", "undefined", "idna"])
def test_an_error_of_somebody_between_may_claim_any_character_set(charset: str) -> None:
    answer = httpx.Response(502, content=b"<h1>No\xff", headers={"Content-Type": f"text/html; charset={charset}"})
    assert parsing.error_of(answer).detail == "<h1>No\ufffd"


def test_an_error_that_is_nested_beyond_reading_keeps_its_status() -> None:
    error = parsing.error_of(httpx.Response(503, content=b"[" * 100_000))
    assert (error.code, error.status, len(error.detail)) == ("http_error", 503, 200)


def test_what_passed_the_services_deadline_has_timed_out() -> None:
    error = parsing.error_of(problem(504, "deadline_passed"))
    assert isinstance(error, errors.TimedOut)
    assert isinstance(error, TimeoutError)


def test_errors_go_from_process_to_process() -> None:
    error = errors.QueueFull("queue_full", 429, "No room.", "id", 2.0)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- its own
    assert type(again) is errors.QueueFull
    assert (again.code, again.status, again.detail, again.request_id, again.retry_after_s) == error.args
