"""Triton's clients, over HTTP and gRPC, blocking and asynchronous, classify pictures here as they do with Triton."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.clients.conftest import GRPC, Asked, Judge, RaisedError, encoded, speaks
from tests.clients.pictures import BROKEN, COLORS, EXPECTED, LABELS, PICTURES, logits, probabilities

pytestmark = [pytest.mark.process, speaks("oip")]

FLAVORS = ["http", "http.aio", *(["grpc", "grpc.aio"] if GRPC else [])]
SENT = encoded(PICTURES)
SQUARES = np.broadcast_to(np.array(COLORS, dtype=np.uint8)[:, None, None, :], (10, 8, 8, 3))

Ask = Callable[..., Any]


@pytest.fixture(params=FLAVORS)
def flavor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ask(service: Asked, judges: Callable[[str], Judge], flavor: str) -> Ask:
    """`ask(function, ...)` of the module of judges."""
    address = service.grpc if flavor.startswith("grpc") else service.http
    judge = judges("triton")
    return lambda function, **arguments: judge(function, flavor=flavor, address=address, **arguments)


def close(values: Any, expected: Any) -> bool:
    return np.allclose(values, expected, atol=1e-5)


def test_the_server_and_the_model_are_live_and_ready(ask: Ask):
    assert ask("ask", method="is_server_live") is True
    assert ask("ask", method="is_server_ready") is True
    assert ask("ask", method="is_model_ready", model_name="clothes") is True
    assert ask("ask", method="is_model_ready", model_name="clothes", model_version="1") is True
    assert ask("ask", method="is_model_ready", model_name="shoes") is False


def test_the_server_tells_which_extensions_it_has(ask: Ask):
    told = ask("ask", method="get_server_metadata")
    assert told["name"]
    assert told["version"]
    assert {"binary_tensor_data", "classification", "model_configuration", "statistics"} <= set(told["extensions"])


def test_metadata_name_a_picture_as_input_and_probabilities_as_output(ask: Ask):
    told = ask("ask", method="get_model_metadata", model_name="clothes")
    assert (told["name"], told["versions"]) == ("clothes", ["1"])
    (picture,) = told["inputs"]
    assert (picture["name"], picture["datatype"]) == ("image", "BYTES")
    assert [int(length) for length in picture["shape"]] == [-1, 1]
    output = next(one for one in told["outputs"] if one["name"] == "probabilities")
    assert output["datatype"] == "FP32"
    assert [int(length) for length in output["shape"]] == [-1, 3]


def test_the_configuration_says_how_many_pictures_go_into_a_run(ask: Ask):
    told = ask("ask", method="get_model_config", model_name="clothes")
    config = told.get("config", told)  # gRPC has it in a message of its own
    assert config["name"] == "clothes"
    assert int(config["max_batch_size"]) >= 1
    assert [one["name"] for one in config["input"]] == ["image"]


def test_the_index_lists_the_model_as_ready(ask: Ask):
    told = ask("ask", method="get_model_repository_index")
    (model,) = told["models"] if isinstance(told, dict) else told
    assert (model["name"], model["version"], model["state"]) == ("clothes", "1", "READY")


def test_statistics_count_pictures_and_their_time(ask: Ask):
    def counted() -> tuple[int, int, int]:
        (told,) = ask("ask", method="get_inference_statistics", model_name="clothes")["model_stats"]
        success = told["inference_stats"]["success"]
        return int(told.get("inference_count", 0)), int(success.get("count", 0)), int(success.get("ns", 0))

    before = counted()
    ask("pictures", sent=SENT[:3])
    after = counted()
    assert after[0] - before[0] == 3
    assert after[1] - before[1] == 1
    assert after[2] > before[2]


@pytest.mark.parametrize("column", [False, True])
def test_each_picture_of_a_request_gets_its_own_probabilities(ask: Ask, column: bool):
    answer = ask("pictures", sent=SENT, column=column)
    assert close(answer["probabilities"], probabilities())
    assert (answer["model_name"], answer["model_version"]) == ("clothes", "1")


def test_one_picture_is_a_batch_of_one(ask: Ask):
    assert close(ask("pictures", sent=SENT[3:4])["probabilities"], probabilities()[3:4])
    assert close(ask("pictures", sent=SENT[4:5], column=True)["probabilities"], probabilities()[4:5])


def test_each_picture_of_a_request_gets_its_own_labels(ask: Ask):
    rows = ask("pictures", sent=SENT, outputs=["probabilities"], classes=2)["probabilities"]
    assert [len(row) for row in rows] == [2] * 10
    for row, label, expected in zip(rows, EXPECTED, probabilities(), strict=True):
        value, index, told = row[0].split(":", 2)
        assert (told, LABELS[int(index)]) == (label, label)
        assert float(value) == pytest.approx(expected.max(), abs=1e-4)


def test_more_classes_than_there_are_is_all_of_them(ask: Ask):
    rows = ask("pictures", sent=SENT[:1], outputs=["probabilities"], classes=1000)["probabilities"]
    assert [len(row) for row in rows] == [3]


def test_logits_and_the_embedding_are_outputs_too(ask: Ask):
    answer = ask("pictures", sent=SENT, outputs=["embedding", "logits", "probabilities"])
    assert np.allclose(answer["logits"], logits(), atol=1e-3)
    assert close(answer["probabilities"], probabilities())
    assert np.allclose(answer["embedding"], np.tile(np.array(COLORS), 16), atol=1e-2)  # the pixels of a patch of 4 x 4


def test_the_id_of_a_request_comes_back(ask: Ask):
    assert ask("pictures", sent=SENT[:1], request_id="mine 7/ü")["id"] == "mine 7/ü"


def test_a_version_may_be_named(ask: Ask):
    assert close(ask("pictures", sent=SENT, model_version="1")["probabilities"], probabilities())
    with pytest.raises(RaisedError, match="9"):
        ask("pictures", sent=SENT, model_version="9")


def test_parameters_that_nobody_knows_change_nothing(ask: Ask):
    answer = ask("pictures", sent=SENT, priority=2, parameters={"mine": 1})
    assert close(answer["probabilities"], probabilities())


def test_a_timeout_is_in_microseconds(ask: Ask):
    assert close(ask("pictures", sent=SENT, timeout=60_000_000)["probabilities"], probabilities())
    with pytest.raises(RaisedError, match=r"InferenceServerException"):
        ask("pictures", sent=SENT * 3, timeout=1)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_pixels_are_classified_as_their_pictures_are(ask: Ask, datatype: str, layout: str):
    squares = SQUARES if layout == "NHWC" else SQUARES.transpose(0, 3, 1, 2)
    answer = ask("pixels", values=squares.tolist(), datatype=datatype)
    assert close(answer["probabilities"], probabilities())


def test_an_unknown_model_is_named_in_the_exception(ask: Ask):
    with pytest.raises(RaisedError, match=r"InferenceServerException: .*shoes"):
        ask("pictures", sent=SENT[:1], model="shoes")


def test_the_place_of_a_file_that_is_no_picture_is_named(ask: Ask):
    sent = [*SENT[:3], *encoded([BROKEN]), *SENT[4:]]
    with pytest.raises(RaisedError, match=r"InferenceServerException: .*\b3\b.*no picture"):
        ask("pictures", sent=sent)


def test_an_unknown_output_is_named_with_those_there_are(ask: Ask):
    with pytest.raises(RaisedError, match=r"InferenceServerException: .*heatmap.*probabilities"):
        ask("pictures", sent=SENT[:1], outputs=["heatmap"])


def test_a_shape_whose_product_overflows_is_refused(ask: Ask):
    with pytest.raises(RaisedError, match=f"InferenceServerException: .*{2**60 + 2}"):
        ask("pixels", values=[[1, 2], [3, 4]], datatype="UINT8", shape=[2**60 + 2, 16])


def test_a_datatype_that_no_picture_has_is_refused(ask: Ask):
    with pytest.raises(RaisedError, match=r"InferenceServerException: .*INT64"):
        ask("pixels", values=[[1, 2], [3, 4]], datatype="INT64")


over_http = pytest.mark.parametrize("flavor", ["http", "http.aio"], indirect=True)


@over_http
@pytest.mark.parametrize("binary_out", [False, True])
def test_base64_in_json_is_a_picture(ask: Ask, binary_out: bool):
    answer = ask("texts", sent=SENT, outputs=["probabilities", "logits"], binary_out=binary_out)
    assert close(answer["probabilities"], probabilities())
    assert np.allclose(answer["logits"], logits(), atol=1e-3)


@over_http
def test_labels_come_in_json_too(ask: Ask):
    rows = ask("texts", sent=SENT, outputs=["probabilities"], classes=1, binary_out=False)["probabilities"]
    assert [row[0].split(":", 2)[2] for row in rows] == EXPECTED


@over_http
def test_pixels_come_in_json_too(ask: Ask):
    answer = ask("pixels", values=SQUARES.tolist(), datatype="FP32", binary_in=False)
    assert close(answer["probabilities"], probabilities())


@over_http
@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_requests_and_answers_may_be_compressed(ask: Ask, algorithm: str):
    both = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    assert close(ask("pictures", sent=SENT, **both)["probabilities"], probabilities())
    assert close(ask("texts", sent=SENT, outputs=["probabilities"], **both)["probabilities"], probabilities())


@over_http
def test_a_compressed_request_that_fails_is_told_in_words(ask: Ask):
    both = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"}
    with pytest.raises(RaisedError, match="no picture"):
        ask("pictures", sent=encoded([BROKEN]), **both)
