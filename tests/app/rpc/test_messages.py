"""Requests of every form, and what is refused before anything large is made of it."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadParameter, BadRequest, ServiceError, TooManyBytes
from app.rpc.messages import asked_in, parsed
from app.rpc.open_inference_pb2 import InferTensorContents, ModelInferRequest
from app.rpc.wire import expect_little_structure
from tests.app.rpc.conftest import asking, prefixed

FILES = [b"first", b"second"]
PIXELS = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)


def request(datatype: str, shape: Any, raw: bytes | None = None, **contents: Any) -> Any:
    tensor = {"name": "image", "datatype": datatype, "shape": shape, "contents": InferTensorContents(**contents)}
    return ModelInferRequest(inputs=[tensor], raw_input_contents=[] if raw is None else [raw])


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_files_in_either_place(shape: list[int]) -> None:
    assert asked_in(request("BYTES", shape, prefixed(*FILES))).pictures == FILES
    assert asked_in(request("BYTES", shape, bytes_contents=FILES)).pictures == FILES


@pytest.mark.parametrize(
    "message",
    [
        request("UINT8", PIXELS.shape, PIXELS.tobytes()),
        request("UINT8", PIXELS.shape, uint_contents=PIXELS.ravel().tolist()),
        request("FP32", PIXELS.shape, PIXELS.astype("<f4").tobytes()),
        request("FP32", PIXELS.shape[1:], fp32_contents=PIXELS.ravel().tolist()),
    ],
)
def test_pixels_in_either_place(message: Any) -> None:
    (pixels,) = asked_in(message).pictures
    assert np.array_equal(pixels, PIXELS[0])


def test_the_rest_of_a_request() -> None:
    parameters = {"timeout": {"int64_param": 5_000_000}, "priority": {"uint64_param": 3}, "mine": {"bool_param": True}}
    outputs = [
        {"name": "probabilities", "parameters": {"classification": {"int64_param": 3}}}, {"name": "logits"},
    ]  # fmt: skip
    message = asking(b"x", id="a b", model_name="m", model_version="2", parameters=parameters, outputs=outputs)
    query = asked_in(message)
    assert (query.model, query.version, query.timeout_s, query.options.id) == ("m", "2", 5.0, "a b")
    assert [(wish.name, wish.labels) for wish in query.options.wishes] == [("probabilities", 3), ("logits", 0)]
    left_open = asked_in(asking(b"x"))
    assert (left_open.model, left_open.version, left_open.timeout_s) == (None, None, math.inf)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (ModelInferRequest(), "The inputs are none"),
        (request("BYTES", [1]), "has 0 elements; expected 1"),
        (request("BYTES", [2**62, 2**62], prefixed(b"x")), "expected [N] or [N, 1]"),
        (request("BYTES", [-1], prefixed(b"x")), "the shape [-1]"),
        (request("BYTES", [2], prefixed(b"four")), "has 1 elements; expected 2"),
        (request("BYTES", [2], b"\xff\xff\xff\x7ffour"), "says that element 0 has 2147483647 bytes"),
        (request("UINT8", [16, 2**60 + 2, 1, 3], b"123"), "has 3 bytes; expected"),
        (request("FP32", [2, 2, 3], b"123"), "has 3 bytes; expected 48"),
        (request("FP32", [1, 1, 1], fp32_contents=[math.nan]), "values from nan"),
        (request("INT64", [1], int64_contents=[1]), "is 'INT64'"),
        (ModelInferRequest(inputs=asking(b"").inputs, raw_input_contents=[b"", b""]), "has 2 tensors; expected 1"),
        (asking(b"x", outputs=[{"name": "logit"}]), "The output 'logit' is asked for"),
        (asking(b"x", parameters={"timeout": {"string_param": "soon"}}), "timeout is soon"),
        (
            asking(b"x", outputs=[{"name": "logits", "parameters": {"classification": {"int64_param": -1}}}]),
            "classification is -1",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(message: Any, words: str) -> None:
    with pytest.raises(BadParameter) as refused:
        asked_in(message)
    assert words in str(refused.value)


# --- before anything is parsed ---


@pytest.mark.parametrize(
    "content",
    [
        b"\x2a\x00" * (4 << 20),  # inputs, each empty
        b"\x3a\x00" * (4 << 20),  # raw_input_contents, each empty
        b"\x0a\x00" * (4 << 20),  # names
        ModelInferRequest(id="x" * 100_000).SerializeToString(),
        ModelInferRequest(inputs=[{"shape": [1] * 100_000}]).SerializeToString(),
        ModelInferRequest(parameters={str(at): {} for at in range(20_000)}).SerializeToString(),
        request("BYTES", [1], bytes_contents=[b""] * 100_000).SerializeToString(),
        request("UINT8", [1], uint_contents=[1] * 5_000_000).SerializeToString(),
        request("INT64", [1], int64_contents=[1] * 5_000_000).SerializeToString(),
    ],
)
def test_a_message_of_little_but_structure_is_refused_before_it_is_parsed(content: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(TooManyBytes):
        parsed(content)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20


def test_no_more_numbers_are_taken_apart_than_of_json() -> None:
    with pytest.raises(TooManyBytes, match="uint_contents has 1000001 values; expected at most 1000000"):
        asked_in(parsed(request("UINT8", [1_000_001], uint_contents=[7] * 1_000_001).SerializeToString()))


def test_files_may_be_as_large_as_messages() -> None:
    for message in (asking(bytes(9 << 20)), request("BYTES", [1], bytes_contents=[bytes(9 << 20)])):
        assert len(asked_in(parsed(message.SerializeToString())).pictures[0]) == 9 << 20


def status_of(content: bytes) -> int:
    """That of its error; 200 where it can be answered."""
    try:
        asked_in(parsed(content))
    except ServiceError as error:
        return error.status
    return 200


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(content: bytes) -> None:
    assert status_of(content) < 500


@given(st.data())
def test_whatever_is_changed_in_a_message_is_never_a_fault_of_ours(data: st.DataObject) -> None:
    content = bytearray(asking(b"picture", id="1", outputs=[{"name": "logits"}]).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    assert status_of(bytes(content)) < 500


def test_what_protobuf_takes_is_not_refused_by_the_look_before_it() -> None:
    large = asking(bytes(70_000), model_name="m", parameters={"d": {"double_param": 0.5}}).SerializeToString()
    expect_little_structure(large)
    for broken in (b"\x0a", b"\x0a\x05ab", b"\xff" * 11, b"\x0b"):
        with pytest.raises(BadRequest):
            expect_little_structure(large + broken)
        with pytest.raises(BadRequest):
            parsed(broken)
