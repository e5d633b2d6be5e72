"""Roboflow's client classifies pictures here, in each of its ways."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.app.color_bundle import image
from tests.clients.conftest import Asked, Judge, RaisedError, speaks
from tests.clients.pictures import BROKEN, COLORS, EXPECTED, LABELS, probabilities

pytestmark = [pytest.mark.process, speaks("roboflow")]


@pytest.fixture
def client(judges: Callable[[str], Judge]) -> Judge:
    return judges("roboflow")


@pytest.fixture
def api_url(service: Asked) -> str:
    return f"http://{service.http}"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """JPEGs of 24 x 16 pixels: the client encodes other formats anew."""
    paths = [tmp_path / f"{index}.jpg" for index in range(len(COLORS))]
    for path, color in zip(paths, COLORS, strict=True):
        path.write_bytes(image(color, size=(24, 16), kind="JPEG", quality=100, subsampling=0))
    return [str(path) for path in paths]


@pytest.mark.parametrize("version", ["", "v0", "v1"])
def test_each_picture_gets_its_own_class(api_url: str, client: Judge, files: list[str], version: str):
    answers = client("infer", api_url=api_url, paths=files, model_id="clothes/1", version=version)
    assert [one["top"] for one in answers] == EXPECTED
    for answer, expected in zip(answers, probabilities(), strict=True):
        assert answer["confidence"] == pytest.approx(expected.max(), abs=0.02)
        best = answer["predictions"][0]
        assert (best["class"], best["class_id"]) == (answer["top"], LABELS.index(answer["top"]))


def test_several_pictures_may_go_in_one_request(api_url: str, client: Judge, files: list[str]):
    answers = client("infer", api_url=api_url, paths=files, model_id="clothes/1", max_batch_size=4)
    assert [one["top"] for one in answers] == EXPECTED


def test_a_picture_that_the_client_makes_smaller_gets_its_class(api_url: str, client: Judge, tmp_path: Path):
    path = tmp_path / "large.jpg"
    path.write_bytes(image(COLORS[4], size=(1500, 1200), kind="JPEG", quality=100, subsampling=0))
    how = {"client_downsizing_disabled": False}
    (answer,) = client("infer", api_url=api_url, paths=[str(path)], model_id="clothes/1", **how)
    assert answer["top"] == EXPECTED[4]


def test_the_asynchronous_client_gets_the_same(api_url: str, client: Judge, files: list[str]):
    answers = client("infer_async", api_url=api_url, paths=files, model_id="clothes/1")
    assert [one["top"] for one in answers] == EXPECTED


def test_the_model_is_listed_as_a_classifier(api_url: str, client: Judge):
    assert client("models", api_url=api_url) == [["clothes/1", "classification"]]


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_an_unknown_model_is_answered_with_those_there_are(api_url: str, client: Judge, files: list[str], version: str):
    with pytest.raises(RaisedError, match=r"404(.|\n)*clothes"):
        client("infer", api_url=api_url, paths=files[:1], model_id="shoes/1", version=version)


def test_the_client_shows_our_words_for_what_is_no_picture(api_url: str, client: Judge, tmp_path: Path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(BROKEN)
    with pytest.raises(RaisedError, match="no picture"):
        client("infer", api_url=api_url, paths=[str(path)], model_id="clothes/1", version="v0")
