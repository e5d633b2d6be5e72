"""The same picture gets the same numbers, or a refusal with the same status, in whatever protocol it is asked about.

A new dialect is one more entry in WAYS.
"""

import base64
import io
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.dialects.names import NAMES
from tests.app.in_process import Serve

Probabilities = dict[str, float]
LABELS = ("red", "green", "blue")
FORMATS = {
    "L": ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"),
    "RGB": ("PNG", "JPEG", "WEBP", "BMP", "TIFF"),
    "RGBA": ("PNG", "WEBP", "TIFF"),
    "LA": ("PNG", "TIFF"),
    "P": ("PNG", "GIF", "TIFF"),
    "1": ("PNG", "BMP", "TIFF"),
    "I;16": ("PNG", "TIFF"),
    "CMYK": ("JPEG", "TIFF"),
}
ORIENTATION = 0x0112


class Way(NamedTuple):
    """One way to ask: the request, and the probabilities of its answer by label. `options`: what it needs to be on."""

    path: str
    body: Callable[[bytes], dict[str, Any]]
    told: Callable[[Any], Probabilities]
    options: Mapping[str, Any] = MappingProxyType({})


def b64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def raw(picture: bytes) -> dict[str, Any]:
    return {"content": picture, "headers": {"content-type": "application/octet-stream"}}


def listed(label: str, number: str) -> Callable[[Any], Probabilities]:
    """Of an answer that is a list of objects with these two."""
    return lambda answer: {one[label]: one[number] for one in answer}


def in_order(values: list[float]) -> Probabilities:
    """Of probabilities in the order of the classes."""
    return dict(zip(LABELS, values, strict=True))


def instances(path: str, **options: Any) -> Way:
    """As KServe v1, TensorFlow Serving and those that took it over ask."""
    return Way(
        path,
        lambda picture: {"json": {"instances": [{"b64": b64(picture)}]}},
        lambda answer: in_order(answer["predictions"][0]["probabilities"]),
        options,
    )


OWN = (
    Way("/classify", raw, lambda answer: listed("label", "probability")(answer["predictions"])),
    Way(
        "/classify",
        lambda picture: {"files": {"file": ("picture", picture)}},
        lambda answer: listed("label", "probability")(answer["predictions"]),
    ),
)
WAYS: dict[str, tuple[Way, ...]] = {
    "huggingface": (
        Way("/hf", raw, listed("label", "score")),
        Way(
            "/hf/models/colours",
            lambda picture: {"json": {"inputs": b64(picture), "parameters": {"top_k": 9}}},
            listed("label", "score"),
        ),
    ),
    "kserve": (instances("/v1/models/colours:predict"), instances("/v1/models/colours/versions/7:predict")),
    "oip": (
        Way(
            "/v2/models/colours/infer",
            lambda picture: {
                "json": {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [b64(picture)]}]}
            },
            lambda answer: in_order(answer["outputs"][0]["data"]),
        ),
    ),
    "openai": (),  # which asks for embeddings
    "roboflow": (
        Way(
            "/infer/classification",
            lambda picture: {"json": {"model_id": "colours/7", "image": {"type": "base64", "value": b64(picture)}}},
            lambda answer: listed("class", "confidence")(answer["predictions"]),
        ),
        Way(
            "/colours/7",
            lambda picture: {"content": b64(picture)},
            lambda answer: listed("class", "confidence")(answer["predictions"]),
        ),
    ),
    "sagemaker": (instances("/invocations"),),
    "torchserve": (
        Way("/predictions/colours", raw, dict),
        Way("/predictions/colours/7", lambda picture: {"files": {"data": ("picture", picture)}}, dict),
    ),
    "vertex": (instances("/vertex/predict", predict_route="/vertex/predict"),),
}


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """Files of every mode that is read, turned as EXIF says, and some that end too early."""
    mode = draw(st.sampled_from(sorted(FORMATS)))
    kind = draw(st.sampled_from(FORMATS[mode]))
    width, height = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 2**16, (height, width), np.uint16))
    else:
        noise = Image.fromarray(rng.integers(0, 256, (height, width, 4), np.uint8))
        image = noise.convert("RGB").convert(mode) if mode in ("P", "CMYK", "1") else noise.convert(mode)
    options: dict[str, Any] = {}
    if kind in ("JPEG", "PNG", "WEBP"):
        exif = Image.Exif()
        exif[ORIENTATION] = draw(st.integers(1, 8))
        options["exif"] = exif
    file = io.BytesIO()
    image.save(file, kind, **options)
    whole = file.getvalue()
    return whole[: draw(st.sampled_from([len(whole), len(whole), len(whole), len(whole) // 2]))]


async def asked(http: httpx.AsyncClient, way: Way, picture: bytes) -> tuple[int, Probabilities]:
    answer = await http.post(way.path, **way.body(picture))
    return answer.status_code, way.told(answer.json()) if answer.status_code == 200 else {}


def test_every_dialect_is_among_the_ways() -> None:
    assert set(NAMES) <= set(WAYS)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(several=st.lists(pictures(), min_size=4, max_size=4))
async def test_the_same_picture_gets_the_same_numbers(serve: Serve, several: list[bytes]) -> None:
    ways = [way for name in NAMES for way in WAYS[name]]
    options = {name: value for way in ways for name, value in way.options.items()}
    async with serve(**options) as service:
        for picture in several:
            status, expected = await asked(service.http, OWN[0], picture)
            assert set(expected) == (set(LABELS) if status == 200 else set())
            for way in (*OWN[1:], *ways):
                assert await asked(service.http, way, picture) == (status, pytest.approx(expected, abs=1e-7)), way.path
