"""The same picture gets the same answer alone and in any batch, at any position, with whatever neighbours.

Within what each precision's bar allows; a graph whose scales come from the whole batch does not reach it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import quantize_dynamic

from export.bundle import Published
from export.parity import THRESHOLDS, GraphRunner, expect_equal, measure
from model.errors import ExportError
from model.evaluation.evaluate import Logits
from model.network.checkpoint import Checkpoint, torch_logits
from model.preprocess import Pixels
from model.spec import Precision
from tests.export.toy_checkpoints import noise

BATCH_SIZES = range(1, 34)
BLACK, WHITE = np.zeros((33, 12, 12, 3), np.uint8), np.full((33, 12, 12, 3), 255, np.uint8)
HALVES = np.concatenate([BLACK[:16], WHITE[:17]])


def batches(image: Pixels) -> Iterator[tuple[int, Pixels]]:
    """(position, batch) of every size, the picture first, last and in between, among noise and among extremes."""
    for neighbours in (noise(33, seed=9), BLACK, WHITE, HALVES):
        for size in BATCH_SIZES:
            for position in {0, size // 2, size - 1}:
                batch = neighbours[:size].copy()
                batch[position] = image
                yield position, batch


def largest_difference(logits_of: Callable[[Pixels], Logits], images: Pixels) -> float:
    """Of a picture's logits, between those alone and those in any batch, relative to the range of all logits."""
    alone = np.concatenate([logits_of(image[np.newaxis]) for image in images])
    differences = [
        np.abs(logits_of(batch)[position] - expected).max()
        for image, expected in zip(images, alone, strict=True)
        for position, batch in batches(image)
    ]
    return float(max(differences) / np.ptp(alone))


@pytest.fixture
def few(images: Pixels) -> Pixels:
    """One picture of each label: what the range of the logits is taken from, too."""
    return images[::10]


@pytest.fixture(scope="module")
def dynamic(bundle: Published, tmp_path_factory: pytest.TempPathFactory) -> GraphRunner:
    """The same network, quantised with scales that are taken from the batch at hand."""
    path = tmp_path_factory.mktemp("dynamic") / "dynamic.onnx"
    graph = onnx.load(bundle.graphs["fp32"].path)
    del graph.graph.value_info[:]  # the exporter's, which quantize_dynamic stumbles over
    quantize_dynamic(graph, path, per_channel=True)
    return GraphRunner(path, 4)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_answer_does_not_depend_on_the_neighbours(bundle: Published, precision: Precision, few: Pixels):
    runner = GraphRunner(bundle.graphs[precision].path, 4, precision)
    assert largest_difference(runner.logits, few) <= THRESHOLDS[precision].batch_difference


def test_nor_does_one_in_half_precision_as_a_service_runs_it(fp16: Path, few: Pixels):
    assert largest_difference(GraphRunner(fp16, 4).logits, few) <= THRESHOLDS["fp16"].batch_difference


def test_dynamic_quantisation_does_not_keep_this(dynamic: GraphRunner, few: Pixels):
    assert largest_difference(dynamic.logits, few) > 2 * THRESHOLDS["int8"].batch_difference


def test_and_is_therefore_not_published(dynamic: GraphRunner, checkpoint: Checkpoint, images: Pixels):
    parity = measure(torch_logits(checkpoint.model, images), dynamic, images)
    assert parity.relative_difference < THRESHOLDS["int8"].difference
    with pytest.raises(ExportError, match=r"differ from one batch to another by .* expected at most 0\.002"):
        expect_equal(parity, "int8")
