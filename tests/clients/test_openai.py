"""OpenAI's client gets embeddings of pictures, and the list of models."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.clients.conftest import Asked, Judge, RaisedError, encoded, speaks
from tests.clients.pictures import BROKEN, COLORS, PICTURES

pytestmark = [pytest.mark.process, speaks("openai")]

URIS = [f"data:image/png;base64,{picture}" for picture in encoded(PICTURES)]


@pytest.fixture
def client(judges: Callable[[str], Judge]) -> Judge:
    return judges("openai_client")


@pytest.fixture
def base_url(service: Asked) -> str:
    return f"http://{service.http}/v1"


def units() -> object:
    """float [10, 48]: the pixels of a patch of 4 x 4, of length 1."""
    pixels = np.tile(np.array(COLORS, dtype=float), 16)
    return pixels / np.linalg.norm(pixels, axis=1, keepdims=True)


@pytest.mark.parametrize("how", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_each_picture_gets_its_own_embedding_of_length_1(base_url: str, client: Judge, how: dict[str, str]):
    assert np.allclose(client("embed", base_url=base_url, model="clothes", input=URIS, **how), units(), atol=1e-4)


def test_one_picture_is_one_embedding(base_url: str, client: Judge):
    (vector,) = client("embed", base_url=base_url, model="clothes", input=URIS[4])
    assert np.allclose(vector, units()[4], atol=1e-4)


def test_the_asynchronous_client_gets_the_same(base_url: str, client: Judge):
    asked = {"base_url": base_url, "model": "clothes", "input": URIS[:3]}
    assert client("embed_async", **asked) == client("embed", **asked)


def test_models_are_listed_and_found(base_url: str, client: Judge):
    assert client("models", base_url=base_url) == ["clothes"]
    assert client("model", base_url=base_url, name="clothes") == "clothes"
    assert "shoes" in str(client("missing_model", base_url=base_url, name="shoes"))


def test_an_unknown_model_is_named(base_url: str, client: Judge):
    with pytest.raises(RaisedError, match=r"NotFoundError: .*shoes"):
        client("embed", base_url=base_url, model="shoes", input=URIS[0])


@pytest.mark.parametrize("sent", ["a text", "http://127.0.0.1:1/x.png"])
def test_texts_and_addresses_are_refused_in_words(base_url: str, client: Judge, sent: str):
    with pytest.raises(RaisedError, match=r"BadRequestError: .*picture"):
        client("embed", base_url=base_url, model="clothes", input=[sent])


def test_the_place_of_a_file_that_is_no_picture_is_named(base_url: str, client: Judge):
    (broken,) = encoded([BROKEN])
    sent = [*URIS[:2], f"data:image/png;base64,{broken}"]
    with pytest.raises(RaisedError, match=r"\b2\b.*no picture"):
        client("embed", base_url=base_url, model="clothes", input=sent)


def test_a_length_that_the_embedding_has_not_is_refused(base_url: str, client: Judge):
    with pytest.raises(RaisedError, match="dimensions is 7; clothes has 48"):
        client("embed", base_url=base_url, model="clothes", input=URIS, dimensions=7)
