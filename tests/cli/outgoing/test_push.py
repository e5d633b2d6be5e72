"""`mixer push`: a model comes to a hub; what is no repository, or no model, is told before the hub is asked."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from model.network import checkpoint
from model.spec import Conformal, Fit
from tests.app.color_bundle import color_spec, write_bundle
from tests.app.signed_bundle import make_keys
from tests.cli.conftest import mixer
from tests.export.outgoing.hub_server import TOKEN, WritableHub, taking
from tests.export.toy_checkpoints import noise, toy_checkpoint

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


@pytest.mark.process
@pytest.mark.timeout(300)
def test_a_signed_bundle_is_verified_where_there_is_a_key_and_stays_here_where_it_was_changed(
    mixer: Callable[..., int],
    server: WritableHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    bundle, keys = write_bundle(tmp_path / "colours", color_spec()), make_keys(tmp_path / "keys")
    (bundle / "labels.txt").write_text("red")
    assert mixer("sign", bundle, "--key", keys.private) == 0
    monkeypatch.setenv("MIXER_BUNDLE_KEY", str(keys.public))
    assert mixer("push", bundle, "shop/signed") == 0
    assert capsys.readouterr().err == f"{bundle} is what was signed with {keys.public}\n"
    assert set(server.repositories["shop/signed"]["main"]) == {"fp32.onnx", "labels.txt", "model.sig"}

    (bundle / "labels.txt").write_text("green")
    assert mixer("push", bundle, "shop/changed") == 2
    assert capsys.readouterr().err == (
        f"mixer: {bundle} is not pushed: The bundle {bundle} is not what was signed with MIXER_BUNDLE_KEY: changed: "
        "labels.txt.\n"
    )
    assert "shop/changed" not in server.repositories

    monkeypatch.delenv("MIXER_BUNDLE_KEY")
    assert mixer("push", bundle, "shop/changed") == 0
    assert capsys.readouterr().err.startswith(
        f"The signature of {bundle} is not verified, as MIXER_BUNDLE_KEY names no "
    )


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_what_was_pushed_is_pulled_back_and_answers_as_before(
    mixer: Callable[..., int],
    server: WritableHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    toy, own = toy_checkpoint(fit=Fit(mode="pad", background="dark"), images=noise(8)), tmp_path / "own"
    conformal = Conformal(data_set="noise", num_pictures=9, scores=tuple(index / 10 for index in range(9)))
    found = {"temperature": 1.7, "energy_threshold": 2.5, "conformal": conformal, "version": "7"}
    toy = replace(toy, spec=toy.spec.model_copy(update=found))
    checkpoint.save(toy, tmp_path / "checkpoint")
    assert mixer("export", tmp_path / "checkpoint", own) == 0
    checkpoint.save(toy, own / "checkpoint")
    assert mixer("push", own, "shop/ways") == 0

    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert mixer("pull", "hf-hub:shop/ways", "--out", tmp_path / "back") == 0

    Image.fromarray(noise(1)[0]).resize((31, 17)).save(tmp_path / "picture.png")
    monkeypatch.setenv("MIXER_PRECISION", "fp32")
    answers = []
    for bundle in (own, tmp_path / "back"):
        capsys.readouterr()
        assert mixer("classify", tmp_path / "picture.png", "--json", "--set", "0.8", "--bundle", bundle) == 0
        answers.append(json.loads(capsys.readouterr().out))
    before, after = answers
    assert "uncertain" in after
    assert [one.pop("probability") for one in after["predictions"]] == pytest.approx(
        [one.pop("probability") for one in before["predictions"]], abs=1e-5
    )
    assert after.pop("energy") == pytest.approx(before.pop("energy"), abs=1e-4)
    assert after == before, "name, version, labels, their set and whether it is sure"
