"""From a file of weights to a bundle, and what the result's folder is named by."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.engine.engine import find_graphs
from cli.pulling import conversion
from model.errors import MixerError
from model.hubs.remote import Remote
from model.hubs.source import Weights

VECTORS = Path(__file__).parents[2] / "vectors"
REMOTE = Remote("https://hub.test/a/b", "hf-hub-a-b.safetensors", notes=("The strips are black there.",))


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["google_tiny.npz", "timm_tiny.safetensors"])
def test_a_file_of_weights_becomes_a_bundle(tmp_path: Path, name: str) -> None:
    remote = REMOTE if name.startswith("timm") else None
    lines = conversion.convert(Weights(VECTORS / name, remote), tuple("abcdefg"), tmp_path / "bundle")
    assert list(find_graphs(tmp_path / "bundle"))[:2] == ["fp32", "fp16"]
    assert lines[0].startswith("Mixer custom, 16 pixels, 7 classes: fp32, fp16")
    assert ("warning: The strips are black there." in lines) == (remote is not None)


def test_labels_for_a_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MixerError, match="is a checkpoint, which has labels of its own; expected none beside it"):
        conversion.convert(Weights(tmp_path), ("a",), tmp_path / "bundle")


# --- keys ---


def copied(folder: Path, name: str = "a.npz") -> Path:
    return Path(shutil.copy(VECTORS / "google_tiny.npz", folder / name))


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: replace(weights, remote=REMOTE),
        lambda weights: replace(weights, remote=replace(REMOTE, pixel_mean=(0.0,))),
        lambda weights: replace(weights, path=VECTORS / "timm_tiny.safetensors"),
    ],
)
def test_other_weights_or_another_description_have_another_key(
    tmp_path: Path, change: Callable[[Weights], Weights]
) -> None:
    weights = Weights(copied(tmp_path))
    assert conversion.key_of(change(weights), None) != conversion.key_of(weights, None)
    assert conversion.key_of(weights, ("a",)) != conversion.key_of(weights, None)


def test_the_same_weights_elsewhere_and_later_have_the_same_key(tmp_path: Path) -> None:
    one, other = copied(tmp_path), copied(tmp_path, "b.npz")
    os.utime(other, ns=(1, 1))
    assert conversion.key_of(Weights(one), None) == conversion.key_of(Weights(other), None)


def test_a_checkpoint_is_known_by_its_weights_config_and_pictures(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "metrics.jsonl"):
        (tmp_path / name).write_text(name)
    before = conversion.key_of(Weights(tmp_path), None)
    (tmp_path / "metrics.jsonl").write_text("more")
    assert conversion.key_of(Weights(tmp_path), None) == before
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.png").touch()
    assert conversion.key_of(Weights(tmp_path), None) != before
