"""From what a person names to a file with all that is known of it, by a hub on this machine or from a folder."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import CheckpointError
from model.hubs import source
from model.network import zoo
from tests.model.hubs.hub_server import COMMIT, HubServer, serving

CONTENT = (Path(__file__).parents[2] / "vectors" / "timm_tiny.safetensors").read_bytes()
CONFIG: dict[str, Any] = {
    "architecture": "mixer_s16_224",
    "num_classes": 7,
    "label_names": [f"thing {index}" for index in range(7)],
    "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "crop_pct": 1.0, "interpolation": "bilinear"},
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    for name in os.environ:
        if name.lower().endswith("_proxy") or name.startswith("HF_"):
            monkeypatch.delenv(name)
    with serving(CONTENT) as answering:
        answering.small["config.json"] = json.dumps(CONFIG).encode()
        monkeypatch.setenv("HF_ENDPOINT", answering.url)
        yield answering


def test_a_repository_comes_with_its_labels_and_its_preprocessing(server: HubServer, tmp_path: Path) -> None:
    found = source.fetch("hf-hub:someone/mixer", tmp_path)
    assert found.remote is not None
    imported = zoo.read(found.path, None, found.remote)
    assert imported.spec.labels == tuple(CONFIG["label_names"])
    assert imported.spec.fit.crop_percentage == 1.0
    assert imported.spec.interpolation == "bilinear"
    assert imported.spec.name == "hf-hub-someone-mixer"
    np.testing.assert_allclose(imported.model.config.pixel_mean, (25.5, 51, 76.5))
    assert imported.model.config.pixel_std == (127.5,)


def test_the_weights_are_of_the_commit_that_the_config_is_of(server: HubServer, tmp_path: Path) -> None:
    source.fetch("hf-hub:someone/mixer@v2", tmp_path)
    asked = {path.split("/resolve/")[1] for _, path, _ in server.requests}
    assert asked == {"v2/config.json", f"{COMMIT}/model.safetensors"}


def test_a_repository_of_another_network_is_one_line_before_its_weights_are_fetched(
    server: HubServer, tmp_path: Path
) -> None:
    server.small["config.json"] = json.dumps({**CONFIG, "architecture": "resnet50"}).encode()
    with pytest.raises(CheckpointError) as caught:
        source.fetch("hf-hub:someone/resnet", tmp_path)
    assert str(caught.value) == (
        "config.json of someone/resnet has the architecture 'resnet50'; expected a Mixer of timm's, as mixer_b16_224."
    )
    assert server.gets() == []


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("config.json", "Expected a repository in timm's layout."),
        ("model.safetensors", "Expected a Mixer's weights in that file."),
    ],
)
def test_a_repository_that_lacks_a_file_is_one_line(
    server: HubServer, tmp_path: Path, missing: str, expected: str
) -> None:
    server.small[missing] = None
    with pytest.raises(CheckpointError) as caught:
        source.fetch("hf-hub:someone/mixer", tmp_path)
    assert str(caught.value).endswith(f"404; someone/mixer has no {missing}. {expected}")


def test_without_a_way_to_the_hub_two_files_in_a_folder_will_do(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError) as caught:
        source.fetch("hf-hub:someone/mixer", tmp_path / "cache")
    assert str(caught.value).endswith(
        ". A mirror may be named in HF_ENDPOINT, a proxy in HTTPS_PROXY; or fetch config.json and model.safetensors on "
        "another machine into a folder, and name that folder."
    )
    folder = tmp_path / "by-hand"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(CONTENT)
    found = source.fetch(str(folder))
    assert found.path == folder / "model.safetensors"
    assert found.remote is not None
    assert zoo.read(found.path, None, found.remote).spec.labels == tuple(CONFIG["label_names"])


def test_a_checkpoints_folder_and_a_file_are_themselves(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model": {}, "spec": {}}')
    (tmp_path / "model.safetensors").touch()
    assert source.fetch(str(tmp_path)) == source.Weights(tmp_path)
    assert source.fetch(str(tmp_path / "a.npz")) == source.Weights(tmp_path / "a.npz")
