"""The default classifier: what its own page claims, as far as pictures that are here can show it.

MIXER_TEST_PHOTOGRAPHS names a folder with the photographs that it was judged on, val/LABEL/*.jpg by the public data
set's names; where it is not set, the tests that need them are skipped.
"""

import base64
import io
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from app.engine.engine import Engine, EngineOptions, open_engine
from app.engine.runners import Outputs
from app.inference.scores import scores_of
from model.network import checkpoint
from model.network.mixer import patchify
from model.preprocess import Pixels, to_patches, to_pixels, to_square

ROOT = Path(__file__).parent.parent
BUNDLE = ROOT / "bundles" / "clothes"
EXAMPLES = sorted((ROOT / "examples").glob("*.jpg"))
PRECISIONS = ("fp32", "fp16", "int8")
LABELS = ("dress", "hat", "long sleeve", "outerwear", "pants", "shirt", "shoes", "shorts", "skirt", "T-shirt")
NAMES = {"longsleeve": "long sleeve", "outwear": "outerwear", "t-shirt": "T-shirt"}  # the data set's, and ours

PHOTOGRAPHS = os.environ.get("MIXER_TEST_PHOTOGRAPHS")
needs_photographs = pytest.mark.skipif(not PHOTOGRAPHS, reason="MIXER_TEST_PHOTOGRAPHS names no folder of photographs")


@pytest.fixture(scope="module")
def engines() -> dict[str, Engine]:
    return {
        precision: open_engine(EngineOptions(BUNDLE, provider="cpu", precision=precision, max_batch_size=16))
        for precision in PRECISIONS
    }


@pytest.fixture
def engine(engines: dict[str, Engine]) -> Engine:
    return engines["int8"]


def pixels_of(path: Path) -> Pixels:
    with Image.open(path) as image:
        return to_pixels(image, 3)


def logits_of(engine: Engine, pictures: list[Pixels]) -> NDArray[np.float32]:
    patches = [to_patches(pixels, engine.spec) for pixels in pictures]
    return np.concatenate([engine.run(patches[start : start + 16]).logits for start in range(0, len(patches), 16)])


def is_uncertain(engine: Engine, pixels: Pixels) -> bool:
    assert engine.spec.energy_threshold is not None
    (scores,) = scores_of(Outputs(logits_of(engine, [pixels])), engine.spec.temperature)
    return scores.energy < engine.spec.energy_threshold


def test_it_has_at_most_four_million_parameters_and_labels_in_words(engine: Engine):
    graph = onnx.load(BUNDLE / "fp32.onnx").graph
    assert sum(int(np.prod(tensor.dims)) for tensor in graph.initializer) <= 4_000_000
    assert engine.spec.labels == LABELS
    assert tuple((BUNDLE / "labels.txt").read_text().splitlines()) == LABELS


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_graph_carries_its_figures(engines: dict[str, Engine], precision: str):
    spec = engines[precision].spec
    assert spec.metrics is not None
    assert spec.metrics.num_pictures == 341
    assert spec.metrics.top1 >= 0.75
    assert spec.metrics.calibration_error <= 0.06  # of 341 pictures; perfect probabilities would have 0.04 of them
    assert spec.conformal is not None
    assert spec.conformal.num_pictures == 341


def test_half_precision_and_bytes_cost_next_to_nothing(engines: dict[str, Engine]):
    top1 = [engine.spec.metrics.top1 for engine in engines.values() if engine.spec.metrics is not None]
    assert max(top1) - min(top1) <= 0.015  # five of 341 pictures


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_graph_holds_a_path_of_the_machine_that_made_it(precision: str):
    content = (BUNDLE / f"{precision}.onnx").read_bytes()
    assert not [word for word in (b"/site-packages/", b"/work/", b"/home/", b"/tmp/") if word in content]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_its_canary_is_a_drawn_example_and_no_photograph(engines: dict[str, Engine], precision: str):
    spec = engines[precision].spec
    assert spec.canary is not None
    with Image.open(io.BytesIO(base64.b64decode(spec.canary.picture))) as image:
        canary = to_pixels(image, 3)
    drawn = [to_square(pixels_of(path), spec.image_size, spec.fit, spec.interpolation) for path in EXAMPLES]
    assert any((canary == square).all() for square in drawn)


@pytest.mark.heavy
def test_the_checkpoint_beside_it_is_the_same_network(engines: dict[str, Engine]):
    engine, loaded = engines["fp32"], checkpoint.load(BUNDLE / "checkpoint")
    squares = [to_square(pixels_of(path), 128, loaded.spec.fit, loaded.spec.interpolation) for path in EXAMPLES]
    expected = checkpoint.torch_logits(loaded.model, np.stack(squares))
    found = logits_of(engine, [pixels_of(path) for path in EXAMPLES])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * float(np.ptp(expected)))
    assert (loaded.spec.temperature, loaded.spec.labels) == (engine.spec.temperature, engine.spec.labels)
    assert loaded.spec.energy_threshold == engine.spec.energy_threshold


@pytest.mark.heavy
def test_its_embeddings_are_those_of_the_checkpoint_beside_it(engines: dict[str, Engine]):
    engine, loaded = engines["fp32"], checkpoint.load(BUNDLE / "checkpoint")
    pictures = [pixels_of(path) for path in EXAMPLES]
    squares = [to_square(pixels, 128, loaded.spec.fit, loaded.spec.interpolation) for pixels in pictures]
    with torch.inference_mode():
        patches = patchify(torch.from_numpy(np.stack(squares)), engine.spec.patch_size)
        expected = loaded.model.embed(patches).numpy()
    found = engine.run([to_patches(pixels, engine.spec) for pixels in pictures]).embedding
    assert found is not None
    assert found.shape == (len(EXAMPLES), engine.embedding_dim)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_knows_the_examples_and_is_sure(engines: dict[str, Engine], precision: str, path: Path):
    engine = engines[precision]
    (logits,) = logits_of(engine, [pixels_of(path)])
    assert plain(engine.spec.labels[int(logits.argmax())]) == plain(path.stem)
    assert not is_uncertain(engine, pixels_of(path))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_mirrored_example_has_the_same_label(engine: Engine, path: Path):
    logits = logits_of(engine, [pixels_of(path), np.ascontiguousarray(pixels_of(path)[:, ::-1])])
    assert logits[0].argmax() == logits[1].argmax()


def text(size: tuple[int, int], words: str) -> Pixels:
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for line in range(size[1] // 14):
        draw.text((8, 4 + 14 * line), " ".join([words] * 8), fill=(20, 20, 20))
    return np.asarray(image)


STRANGE = {
    "noise": np.random.default_rng(0).integers(0, 256, (200, 160, 3), dtype=np.uint8),
    "black": np.zeros((100, 100, 3), np.uint8),
    "white": np.full((100, 100, 3), 255, np.uint8),
    "gradient": np.linspace(0, 255, 160 * 160 * 3).reshape(160, 160, 3).astype(np.uint8),
    "stripes": np.tile(np.repeat([[30, 30, 90], [220, 200, 60]], 8, 0).astype(np.uint8)[:, None], (12, 160, 1)),
    "checkers": (np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((20, 20))) * 255)[..., None].repeat(3, 2).astype("u1"),
    "page of text": text((320, 400), "the quick brown fox jumps"),
    "receipt": text((140, 420), "1 x item 4.50"),
}  # fmt: skip


@pytest.mark.parametrize("precision", PRECISIONS)
def test_of_strange_pictures_four_in_five_are_uncertain(engines: dict[str, Engine], precision: str):
    uncertain = {name: is_uncertain(engines[precision], pixels) for name, pixels in STRANGE.items()}
    assert sum(uncertain.values()) >= 0.8 * len(STRANGE), uncertain


@needs_photographs
@pytest.mark.heavy
@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_is_as_good_on_photographs_as_its_graphs_say(engines: dict[str, Engine], precision: str):
    engine, spec = engines[precision], engines[precision].spec
    folders = sorted((Path(PHOTOGRAPHS or "") / "val").iterdir())
    labelled = [
        (path, NAMES.get(folder.name, folder.name)) for folder in folders for path in sorted(folder.glob("*.jpg"))
    ]
    logits = logits_of(engine, [pixels_of(path) for path, _ in labelled])
    right = [spec.labels[index] == label for index, (_, label) in zip(logits.argmax(1), labelled, strict=True)]
    assert spec.metrics is not None
    assert np.mean(right) == pytest.approx(spec.metrics.top1, abs=0.01)
    scores = scores_of(Outputs(logits), spec.temperature)
    assert np.mean([one.energy >= (spec.energy_threshold or 0) for one in scores]) >= 0.94
    assert spec.conformal is not None
    largest = spec.conformal.quantile(0.9)
    covered = [
        1 - one.probabilities[spec.labels.index(label)] <= largest
        for one, (_, label) in zip(scores, labelled, strict=True)
    ]
    assert np.mean(covered) >= 0.89
