"""`mixer push`: a model comes to a hub; what is no repository, or no model, is told before the hub is asked."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import mixer
from tests.export.outgoing.hub_server import TOKEN, WritableHub, taking

__all__ = ["mixer"]
CLOTHES = Path(__file__).parents[3] / "bundles" / "clothes"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WritableHub]:
    with taking() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.mark.heavy
def test_the_default_bundle_comes_to_a_private_repository(
    mixer: Callable[..., int], server: WritableHub, capsys: pytest.CaptureFixture[str]
):
    assert mixer("push", CLOTHES, "shop/clothes", "--private") == 0
    files = server.repositories["shop/clothes"]["main"]
    assert {"fp32.onnx", "int8.onnx", "model.safetensors", "config.json", "README.md", "labels.txt"} <= set(files)
    assert files["int8.onnx"] == (CLOTHES / "int8.onnx").read_bytes()
    assert not any(name.startswith("checkpoint/") for name in files)
    assert server.private == {"shop/clothes": "private"}
    assert server.messages == ["Push clothes"]
    assert capsys.readouterr().out.startswith(f"{server.url}/shop/clothes: README.md, ")


@pytest.mark.parametrize("name", ["clothes", "shop/clothes/more", "shop/", "https://hub/shop/clothes", "../clothes"])
def test_what_names_no_repository_is_told(
    mixer: Callable[..., int], server: WritableHub, name: str, capsys: pytest.CaptureFixture[str]
):
    assert mixer("push", CLOTHES, name) == 2
    assert capsys.readouterr().err == f"mixer: {name} names no repository; expected ORG/REPO.\n"
    assert not server.paths


def test_what_is_no_model_is_told(
    mixer: Callable[..., int], server: WritableHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert mixer("push", tmp_path, "shop/clothes") == 2
    assert "is neither a bundle nor a checkpoint" in capsys.readouterr().err
    assert not server.paths
