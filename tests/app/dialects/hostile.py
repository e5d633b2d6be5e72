"""JSON that nobody means, for bodies of dialects: what every one of them has to answer with a 4xx."""

import base64
from typing import Any

import httpx
from hypothesis import strategies as st

from tests.app.color_bundle import GREEN, RED, image

GREEN_BASE64 = base64.b64encode(image(GREEN)).decode()
RED_BASE64 = base64.b64encode(image(RED)).decode()
NO_OBJECTS = [b"", b"[]", b"null", b"NaN", b'{"a": NaN}', b'{"a": "\\ud800"}', b"\xff", b"[" * 5000, b'{"a":' * 5000]

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([2**70, 0, -1, 1e308]),
    st.floats(allow_nan=False, allow_infinity=False), _TEXT,
    st.sampled_from(["http://x/y.png", "data:image/png;base64,", "data:,x", "AAAA", "=", GREEN_BASE64]),
)  # fmt: skip


def values(*names: str) -> st.SearchStrategy[Any]:
    """Values of every kind, in each other; objects have some of these names."""
    return st.recursive(
        _LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(names) | _TEXT, inner, max_size=3),
        max_leaves=8,
    )


def bodies(*fields: str, names: tuple[str, ...] = ()) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Objects with any values in some of these fields."""
    each = dict.fromkeys(fields, values(*names or fields))
    return st.lists(st.fixed_dictionaries({}, optional=each), min_size=5, max_size=5)


def expect_no_failure(answer: httpx.Response, body: object) -> None:
    """The answer is one, or a refusal."""
    assert answer.status_code == 200 or 400 <= answer.status_code < 500, (body, answer.text)
