"""What tests of dialects send, and what they look for in answers."""

import base64
from typing import Any

import httpx
from hypothesis import strategies as st

from tests.app.color_bundle import BLUE, GREEN, RED, image

RED_PNG, GREEN_PNG, BLUE_PNG = image(RED), image(GREEN), image(BLUE)


def b64(content: bytes) -> str:
    """In base64, as a text."""
    return base64.b64encode(content).decode()


def values() -> st.SearchStrategy[Any]:
    """Values of JSON as nobody means them: wrong kinds, large, small and strange ones, deep in each other."""
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(), st.just(2**70), st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.sampled_from(["http://x/y.png", "data:image/png;base64,", "AAAA", "=", b64(RED_PNG)]),
    )  # fmt: skip
    names = st.sampled_from(["b64", "image", "data", "instances", "top_k"]) | st.text(
        st.characters(exclude_categories=["Cs"]), max_size=5
    )
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
    )


def expect_error(answer: httpx.Response, status: int, *words: str) -> None:
    """Check an error in the form of KServe and TensorFlow Serving, with the members of problem+json beside it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["error"] == body["detail"]
    assert body["status"] == status
    for word in words:
        assert word in body["error"]
