"""What may be asked, as values: how each request looks, and what reads its answer. Sends nothing."""

import json
import math
from array import array
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote

import httpx

from mixer_client import parsing
from mixer_client.answers import Classification, Embedding, Explanation, Models
from mixer_client.errors import BadInput
from mixer_client.images import Payload
from mixer_client.trace_context import trace_headers

T = TypeVar("T")
_PREFIXES = ("http://", "https://")
_LONGEST_S = 1e9  # 31 years: no socket takes an endless time


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and what its answer is read with."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    query: Mapping[str, str]
    body: bytes = b""
    content_type: str = ""


@dataclass(frozen=True)
class Wish:
    """What a classification is to have; None: as the service has it by default."""

    model: str | None = None
    top_k: int | None = None
    threshold: float | None = None
    coverage: float | None = None

    def query(self) -> dict[str, str]:
        """As /classify takes it."""
        return _query(model=self.model, top_k=self.top_k, threshold=self.threshold, set=self.coverage)


class Target:
    """Where a service is, and what stands in each request to it. Raises BadInput for what is no address."""

    def __init__(self, base_url: str, key: str | None) -> None:
        self.address = base_url.rstrip("/")
        try:
            url = httpx.URL(self.address)
        except httpx.InvalidURL as error:
            raise BadInput(f"base_url is {base_url!r}: {error}; expected http://HOST:PORT.") from error
        if url.userinfo:
            raise BadInput("base_url has a user or a password, which is not sent; expected http://HOST:PORT.")
        if not self.address.startswith(_PREFIXES) or not url.host or url.query or url.fragment:
            raise BadInput(f"base_url is {base_url!r}; expected http://HOST:PORT or https://HOST:PORT.")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise BadInput("key has characters that no header may have; expected printable ones of ASCII.")
        if key is not None and (not key or key != key.strip()):
            raise BadInput("key is empty, or has a space before or after it; expected it alone, or None.")
        self._headers = {"Accept": "application/json", "User-Agent": "mixer-client"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"

    def request(self, call: Call[T], left_s: float) -> httpx.Request:
        """The request, which says how much time is left for it. Raises BadInput where no address holds its query."""
        headers = {**trace_headers(), **self._headers, "X-Request-Timeout-Ms": f"{left_s * 1000:.0f}"}
        if call.content_type:
            headers["Content-Type"] = call.content_type
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), min(left_s, _LONGEST_S))
        try:
            url = httpx.URL(self.address + call.path, params=call.query or None)
        except httpx.InvalidURL as error:
            raise BadInput(f"The arguments of {call.path} make no address: {error}; expected shorter ones.") from error
        return httpx.Request(
            call.method, url, headers=headers, content=call.body or None, extensions={"timeout": timeout}
        )


def classification(payload: Payload, wish: Wish) -> Call[Classification]:
    """POST /classify."""
    return Call("POST", "/classify", parsing.classification_of, wish.query(), *payload)


def explanation(
    payload: Payload, target: str | int | None, method: str, baseline: str, model: str | None
) -> Call[Explanation]:
    """POST /explain."""
    query = _query(target=target, method=method, baseline=baseline, model=model)
    return Call("POST", "/explain", parsing.explanation_of, query, *payload)


def unit_embedding(payload: Payload, model: str | None) -> "Call[array[float]]":
    """POST /v1/embeddings: of all endpoints that give embeddings, the one that needs no model's name."""
    asked = {"input": b64encode(payload.body).decode(), "encoding_format": "base64"}
    if model is not None:
        asked["model"] = model
    return Call("POST", "/v1/embeddings", parsing.embedding_of, {}, json.dumps(asked).encode(), "application/json")


def raw_embedding(payload: Payload, model: str | None) -> Call[Embedding]:
    """POST /v2/models/NAME/infer: the endpoint that gives an embedding as the graph does. Raises BadInput."""
    if model is None:
        raise BadInput("model is None; expected a name, by which an embedding has to be asked that is not normalized.")
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [b64encode(payload.body).decode()]}
    asked = {"inputs": [image], "outputs": [{"name": "embedding"}]}
    path = f"/v2/models/{quote(_text('model', model), safe='')}/infer"
    return Call("POST", path, parsing.raw_embedding_of, {}, json.dumps(asked).encode(), "application/json")


def models() -> Call[Models]:
    """GET /models."""
    return Call("GET", "/models", parsing.models_of, {})


def readiness() -> Call[bool]:
    """GET /health/ready."""
    return Call("GET", "/health/ready", lambda answer: answer.status_code == httpx.codes.OK, {})


def expect_seconds(timeout_s: float) -> float:
    """Raises BadInput."""
    if not (timeout_s > 0 and math.isfinite(timeout_s)):
        raise BadInput(f"timeout_s is {timeout_s}; expected seconds, more than 0.")
    return timeout_s


def _query(**values: str | float | None) -> dict[str, str]:
    return {name: _text(name, str(value)) for name, value in values.items() if value is not None}


def _text(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{name} is {value!r}; expected text that UTF-8 can hold.") from error
    return value
