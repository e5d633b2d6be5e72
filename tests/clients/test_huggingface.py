"""Clients of Hugging Face's inference, in Python and in JavaScript, classify pictures here."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.app.servers import PATIENCE_S, ROOT
from tests.clients.conftest import Asked, Judge, RaisedError, encoded, speaks
from tests.clients.pictures import BROKEN, EXPECTED, PICTURES, logits, probabilities

pytestmark = [pytest.mark.process, speaks("huggingface")]

CJS = ROOT / "tests" / "clients" / "judges" / "huggingface.cjs"


@pytest.fixture
def client(judges: Callable[[str], Judge]) -> Judge:
    return judges("huggingface")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(len(PICTURES))]
    for path, picture in zip(paths, PICTURES, strict=True):
        path.write_bytes(picture)
    return paths


def test_a_file_gets_its_labels_with_the_likeliest_first(service: Asked, client: Judge, files: list[Path]):
    for path, label, expected in zip(files, EXPECTED, probabilities(), strict=True):
        answer = client("classify", url=f"http://{service.http}/hf", path=str(path))
        assert answer[0] == [label, pytest.approx(expected.max(), abs=1e-5)]
        assert [score for _, score in answer] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)


def test_the_bare_address_is_that_of_an_endpoint(service: Asked, client: Judge, files: list[Path]):
    assert client("classify", url=f"http://{service.http}", path=str(files[2]))[0][0] == EXPECTED[2]


def test_bytes_whose_type_the_client_does_not_know_are_a_picture_too(service: Asked, client: Judge):
    (picture,) = encoded(PICTURES[3:4])
    assert client("classify", url=f"http://{service.http}/hf", picture=picture)[0][0] == EXPECTED[3]


def test_the_client_limits_how_many_labels(service: Asked, client: Judge, files: list[Path]):
    url = f"http://{service.http}/hf"
    assert [label for label, _ in client("classify", url=url, path=str(files[0]), top_k=1)] == [EXPECTED[0]]
    assert len(client("classify", url=url, path=str(files[0]), top_k=1000)) == 3


def test_the_client_gets_logits_where_it_wants_no_function(service: Asked, client: Judge, files: list[Path]):
    answer = client("classify", url=f"http://{service.http}/hf", path=str(files[4]), function_to_apply="none")
    assert [score for _, score in answer] == pytest.approx(sorted(logits()[4], reverse=True), abs=1e-4)


def test_the_asynchronous_client_gets_the_same(service: Asked, client: Judge, files: list[Path]):
    url = f"http://{service.http}/hf"
    asked = {"url": url, "path": str(files[5]), "top_k": 2}
    assert client("classify_async", **asked) == client("classify", **asked)


def test_a_model_is_named_in_the_address(service: Asked, client: Judge, files: list[Path]):
    url = f"http://{service.http}/hf/models/clothes"
    assert client("classify", url=url, path=str(files[6]))[0][0] == EXPECTED[6]
    with pytest.raises(RaisedError, match="404"):
        client("classify", url=f"http://{service.http}/hf/models/shoes", path=str(files[6]))


def test_the_client_says_that_a_file_is_no_picture(service: Asked, client: Judge):
    (broken,) = encoded([BROKEN])
    with pytest.raises(RaisedError, match=r"BadRequestError: (.|\n)*is no picture; expected JPEG"):
        client("classify", url=f"http://{service.http}/hf", picture=broken)


def test_the_client_for_javascript_gets_labels_and_the_words_of_an_error(
    service: Asked, node: tuple[str, Path], files: list[Path], tmp_path: Path
):
    broken = tmp_path / "broken.png"
    broken.write_bytes(BROKEN)
    program, packages = node
    command = [program, str(CJS), str(packages), f"http://{service.http}/hf", *map(str, [*files, broken])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    *answers, refusal = map(json.loads, done.stdout.splitlines())
    assert [answer[0]["label"] for answer in answers] == EXPECTED
    assert "inference: " in refusal["raised"]
    assert "HTTP error occurred" not in refusal["raised"]
