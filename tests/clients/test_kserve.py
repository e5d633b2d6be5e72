"""KServe's clients classify pictures here: version 1 of its protocol, and version 2 over HTTP and gRPC."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.clients.conftest import GRPC, Asked, Judge, RaisedError, encoded, speaks
from tests.clients.pictures import BROKEN, COLORS, EXPECTED, PICTURES, probabilities

pytestmark = pytest.mark.process

SENT = encoded(PICTURES)
over_grpc = pytest.mark.skipif(not GRPC, reason="the service speaks no gRPC")


@pytest.fixture
def client(judges: Callable[[str], Judge]) -> Judge:
    return judges("kserve_clients")


@pytest.fixture
def base_url(service: Asked) -> str:
    return f"http://{service.http}"


def close(values: object, expected: object) -> bool:
    return np.allclose(values, expected, atol=1e-5)


@speaks("kserve")
def test_version_1_predicts_each_instance_in_order(base_url: str, client: Judge):
    body = {"instances": [{"b64": picture} for picture in SENT]}
    predictions = client("predict", base_url=base_url, model="clothes", body=body)["predictions"]
    assert [one["label"] for one in predictions] == EXPECTED
    assert close([one["probabilities"] for one in predictions], probabilities())


@speaks("kserve")
def test_version_1_takes_pictures_that_have_a_name(base_url: str, client: Judge):
    body = {"instances": [{"image": {"b64": picture}} for picture in SENT[:2]]}
    predictions = client("predict", base_url=base_url, model="clothes", body=body)["predictions"]
    assert [one["label"] for one in predictions] == EXPECTED[:2]


@speaks("kserve")
def test_version_1_explains_each_instance(base_url: str, client: Judge):
    body = {"instances": [{"b64": picture} for picture in SENT[:2]], "parameters": {"method": "occlusion"}}
    explanations = client("explain", base_url=base_url, model="clothes", body=body)["explanations"]
    assert [one["target"]["label"] for one in explanations] == EXPECTED[:2]
    assert {np.shape(one["grid"]["values"]) for one in explanations} == {(2, 2)}


@speaks("kserve")
def test_version_1_knows_whether_a_model_is_ready(base_url: str, client: Judge):
    assert client("is_model_ready", base_url=base_url, protocol="v1", model="clothes") is True
    with pytest.raises(RaisedError, match=r"HTTPStatusError: .*shoes.*404"):
        client("is_model_ready", base_url=base_url, protocol="v1", model="shoes")


@speaks("kserve")
def test_version_1_finds_the_server_live(base_url: str, client: Judge):
    assert client("is_live", base_url=base_url, protocol="v1") is True


@speaks("kserve")
def test_version_1_shows_our_words_for_what_is_wrong(base_url: str, client: Judge):
    def predict(model: str, picture: str) -> None:
        client("predict", base_url=base_url, model=model, body={"instances": [{"b64": SENT[0]}, {"b64": picture}]})

    with pytest.raises(RaisedError, match=r"HTTPStatusError: .*shoes.*404"):
        predict("shoes", SENT[0])
    with pytest.raises(RaisedError, match=r"HTTPStatusError: Picture 1: .*no picture.*40"):
        predict("clothes", *encoded([BROKEN]))


@speaks("oip")
def test_version_2_knows_that_server_and_model_are_ready(base_url: str, client: Judge):
    assert client("is_live", base_url=base_url, protocol="v2") is True
    assert client("is_ready", base_url=base_url) is True
    assert client("is_model_ready", base_url=base_url, protocol="v2", model="clothes") is True
    assert client("is_model_ready", base_url=base_url, protocol="v2", model="shoes") is False


@speaks("oip")
@pytest.mark.parametrize("binary", [False, True])
def test_version_2_gets_probabilities_of_each_picture(base_url: str, client: Judge, binary: bool):
    answer = client("infer", base_url=base_url, sent=SENT, binary=binary, request_id="seven")
    assert close(answer["probabilities"], probabilities())
    assert (answer["id"], answer["model_name"]) == ("seven", "clothes")


@speaks("oip")
def test_version_2_gets_the_label_of_each_picture(base_url: str, client: Judge):
    answer = client("infer", base_url=base_url, sent=SENT, binary=True, classes=1)
    assert [row[0].split(":", 2)[2] for row in answer["probabilities"]] == EXPECTED


@speaks("oip")
def test_version_2_shows_our_words_for_what_is_wrong(base_url: str, client: Judge):
    with pytest.raises(RaisedError, match=r"HTTPStatusError: .*shoes.*404"):
        client("infer", base_url=base_url, sent=SENT, binary=True, model="shoes")
    with pytest.raises(RaisedError, match=r"HTTPStatusError: .*\b2\b.*no picture.*400"):
        client("infer", base_url=base_url, sent=[*SENT[:2], *encoded([BROKEN])], binary=False)


@over_grpc
def test_grpc_knows_that_server_and_model_are_ready(service: Asked, client: Judge):
    assert client("are_live_and_ready", address=service.grpc, model="clothes") == [True, True, True]


@over_grpc
@pytest.mark.parametrize("raw", [False, True])
def test_grpc_gets_probabilities_of_each_picture(service: Asked, client: Judge, raw: bool):
    answer = client("infer_grpc", address=service.grpc, sent=SENT, raw=raw, request_id="seven")
    assert close(answer["probabilities"], probabilities())
    assert (answer["id"], answer["model_name"]) == ("seven", "clothes")


@over_grpc
def test_grpc_takes_pixels_as_numbers(service: Asked, client: Judge):
    squares = np.broadcast_to(np.array(COLORS)[:, None, None, :], (10, 8, 8, 3))
    answer = client("pixels_grpc", address=service.grpc, values=squares.tolist())
    assert close(answer["probabilities"], probabilities())


@over_grpc
def test_grpc_shows_our_words_for_what_is_wrong(service: Asked, client: Judge):
    with pytest.raises(RaisedError, match="shoes"):
        client("infer_grpc", address=service.grpc, sent=SENT, raw=True, model="shoes")
    with pytest.raises(RaisedError, match=r"\b2\b.*no picture"):
        client("infer_grpc", address=service.grpc, sent=[*SENT[:2], *encoded([BROKEN])], raw=True)
