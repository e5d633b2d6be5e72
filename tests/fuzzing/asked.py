"""Requests of other protocols to begin with, and how they are changed: values of JSON, and what was deflated."""

import base64
import json
import random
import zlib
from typing import Any

from app.dialects.oip.tensors import joined
from tests.fuzzing import seeds as pictures

CODINGS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_MOST_INFLATED_BYTES = 1 << 17
_MOST_CHANGED_BYTES = 1 << 14  # of JSON, whose copies within copies could be endless
_INFER = "/v2/models/{model}/infer"
_JSON, _OCTETS = "application/json", "application/octet-stream"
_WORDS = (
    "image", "BYTES", "UINT8", "FP32", "probabilities", "logits", "embedding", "classification", "binary_data",
    "binary_data_size", "binary_data_output", "timeout", "shape", "data", "inputs", "outputs", "parameters", "b64",
    "instances", "image_bytes", "top_k", "dimensions", "base64", "http://a/b.png", "data:image/png;base64,",
    "\N{SNOWMAN}",
)  # fmt: skip
_NUMBERS = (
    0, 1, -1, 2, 3, 4, 255, 256, 0.5, 1e308, -0.0, 2**31, 2**32, 2**60 + 2, 2**63, 2**64, 10**300, 10**4000
)  # fmt: skip


def inflated(body: bytes, coding: bytes) -> bytes | None:
    """What it stands for; None where it stands for nothing, or for much."""
    if coding not in CODINGS:
        return None if coding else body
    unpack = zlib.decompressobj(CODINGS[coding])
    try:
        plain = unpack.decompress(body, _MOST_INFLATED_BYTES)
    except zlib.error:
        return None
    return plain if unpack.eof else None


def deflated(body: bytes, coding: bytes) -> bytes:
    """The other way round; as it is where the coding is none of those."""
    if coding not in CODINGS:
        return body
    pack = zlib.compressobj(wbits=CODINGS[coding])
    return pack.compress(body) + pack.flush()


def mutated_json(body: bytes, length: bytes, rng: random.Random) -> tuple[bytes, bytes]:
    """A value somewhere in the JSON at the beginning is another one, or there once more; and how long it is now."""
    count = int(length) if length.isdigit() and len(length) < 8 else len(body)
    try:
        asked = json.loads(body[: min(count, _MOST_CHANGED_BYTES)])
    except (ValueError, RecursionError):
        return body, length
    places = list(_places(asked))
    if places:
        within, at = rng.choice(places)
        within[at] = _value(rng, [one[key] for one, key in places])
        if isinstance(within, list) and rng.random() < 0.3:
            within *= rng.choice((2, 3, 20))
    else:
        asked = _value(rng, [asked])
    head = json.dumps(asked, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return head + body[count:], str(len(head)).encode() if length and rng.random() < 0.9 else length


def _places(value: Any) -> "list[tuple[Any, Any]]":
    """Every member and element in there."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    found: list[tuple[Any, Any]] = []
    for key in keys:
        found += [(value, key), *_places(value[key])]
    return found


def _value(rng: random.Random, others: list[Any]) -> Any:
    """Any, or one that is there elsewhere."""
    kind = rng.randrange(8)
    if kind < 2:
        return json.loads(json.dumps(rng.choice(others)))
    if kind == 2:
        return [_value(rng, others) for _ in range(rng.randrange(4))]
    if kind == 3:
        return {rng.choice(_WORDS): _value(rng, others) for _ in range(rng.randrange(3))}
    if kind == 4:
        return rng.choice(_WORDS)
    return rng.choice((None, True, False)) if kind == 5 else rng.choice(_NUMBERS)


def seeds() -> dict[str, bytes]:
    """Requests of every protocol as its clients send them."""
    small = sorted(pictures.images().values(), key=len)[:3]
    texts = [base64.b64encode(one).decode() for one in small]
    pixels = bytes(range(48))

    def of(path: str, body: bytes, content_type: str = _JSON, length: str = "", coding: bytes = b"") -> bytes:
        head = "\n".join((path, content_type, length)).encode()
        return b"\n".join((head, coding, b"\x07\x28", deflated(body, coding)))

    def told(path: str, **body: Any) -> bytes:
        return of(path, json.dumps(body).encode())

    def tensor(content: bytes, coding: bytes = b"", *, sized: bool = True, **entry: Any) -> bytes:
        size = {"parameters": {"binary_data_size": len(content)}} if sized else {}
        wish = {"name": "probabilities", "parameters": {"classification": 2, "binary_data": True}}
        asked = {"id": "7", "inputs": [{"name": "image", **entry, **size}], "outputs": [wish, {"name": "embedding"}]}
        head = json.dumps(asked).encode()
        return of(_INFER, head + content, _OCTETS, str(len(head)), coding)

    files, rows = joined(small), [[[1, 2, 3], [4, 5, 255]], [[0, 0, 0], [7, 8, 9]]]
    form = b'--XX\r\nContent-Disposition: form-data; name="data"\r\n\r\n' + small[0] + b"\r\n--XX--\r\n"
    entry: dict[str, Any] = {"name": "image", "datatype": "BYTES"}
    return {
        "files": tensor(files, datatype="BYTES", shape=[3, 1]),
        "one file": tensor(joined(small[:1]), datatype="BYTES", shape=[1], sized=False),
        "files, gzip": tensor(files, b"gzip", datatype="BYTES", shape=[3]),
        "files, deflate": tensor(files, b"deflate", datatype="BYTES", shape=[3]),
        "bytes of pixels": tensor(pixels, datatype="UINT8", shape=[1, 4, 4, 3]),
        "planes of floats": tensor(b"\0\0\x80\x3f" * 48, datatype="FP32", shape=[1, 3, 4, 4]),
        "in turns": of(
            _INFER,
            b" " * (1 << 20) + json.dumps({"inputs": [{**entry, "shape": [3], "data": texts}]}).encode(),
            coding=b"gzip",
        ),
        "a file alone": of(_INFER, small[0], _OCTETS, "0"),
        "texts": told(_INFER, inputs=[{**entry, "shape": [3], "data": texts}], parameters={"timeout": 5_000_000}),
        "numbers": told(_INFER, inputs=[{"name": "image", "datatype": "FP32", "shape": [2, 2, 3], "data": rows}]),
        "instances": told("/v1/models/{model}:predict", instances=[{"b64": texts[0]}, texts[1], rows]),
        "examples": told("/v1/models/{model}:classify", examples=[{"image": {"b64": texts[0]}}]),
        "invocations": told("/invocations", inputs=texts[0], parameters={"top_k": 2}),
        "vertex": told("/vertex", instances=[{"image_bytes": {"b64": texts[0]}}], parameters={"maxPredictions": 2}),
        "embeddings": told("/v1/embeddings", input=texts, model="a", encoding_format="base64", dimensions=4),
        "messages": told(
            "/v1/embeddings", messages=[{"content": [{"image_url": {"url": "data:;base64," + texts[0]}}]}]
        ),
        "hugging face": told("/hf", inputs=texts[0], parameters={"top_k": 2, "function_to_apply": "none"}),
        "roboflow": told("/infer/classification", model_id="a/1", image=[{"type": "base64", "value": texts[0]}]),
        "roboflow, v0": of("/{model}/{version}", texts[0].encode()),
        "torchserve, form": of("/predictions/{model}", form, "multipart/form-data; boundary=XX"),
        "torchserve": of("/predictions/{model}", small[0], "image/png"),
    }
