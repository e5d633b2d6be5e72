"""A graph that differs from its network is found out, at whatever batch size, and by how much."""

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from export.bundle import Published
from export.parity import THRESHOLDS, GraphRunner, Parity, expect_accurate, expect_equal, measure
from model.errors import ExportError
from model.network.checkpoint import Checkpoint, torch_logits
from model.preprocess import Pixels
from model.spec import Metrics, Precision

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def changed(source: Path, folder: Path, name: str, factor: float, amount: float = 0.0) -> GraphRunner:
    """The graph with one of its weights times `factor` plus `amount`."""
    graph = onnx.load(source)
    (tensor,) = (tensor for tensor in graph.graph.initializer if name in tensor.name)
    values = numpy_helper.to_array(tensor) * np.float32(factor) + np.float32(amount)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(graph, folder / "changed.onnx")
    return GraphRunner(folder / "changed.onnx", 4)


def metrics(top1: float, num_pictures: int) -> Metrics:
    return Metrics(data_set="test", num_pictures=num_pictures, top1=top1, top5=1.0, calibration_error=0.0)


# --- measuring ---


@pytest.mark.parametrize(
    ("precision", "least", "most"), [("fp32", 0, 1e-5), ("fp16", 1e-6, 5e-3), ("int8", 1e-4, 5e-2)]
)
def test_a_faithful_graph_passes(
    checkpoint: Checkpoint, bundle: Published, images: Pixels, precision: Precision, least: float, most: float
):
    parity = measure(
        torch_logits(checkpoint.model, images), GraphRunner(bundle.graphs[precision].path, 4, precision), images
    )
    assert parity.num_pictures == len(images)
    assert least <= parity.relative_difference < most
    assert parity.top1_agreement == 1
    expect_equal(parity, precision)


def test_a_bias_that_is_off_is_refused_with_the_bar_and_the_distance(
    checkpoint: Checkpoint, fp32: Path, images: Pixels, tmp_path: Path
):
    amount = 1e-3 * float(np.ptp(torch_logits(checkpoint.model, images)))
    parity = measure(torch_logits(checkpoint.model, images), changed(fp32, tmp_path, "head.bias", 1, amount), images)
    assert parity.relative_difference == pytest.approx(1e-3, rel=0.01)
    with pytest.raises(
        ExportError, match=r"fp32.onnx is not published: .* by 0.001 of their range; expected at most 0.0001"
    ):
        expect_equal(parity, "fp32")
    expect_equal(parity, "fp16")


def test_agreement_is_that_of_the_best_label(checkpoint: Checkpoint, fp32: Path, images: Pixels, tmp_path: Path):
    runner = changed(fp32, tmp_path, "head.weight", -1)
    expected = (runner.logits(images).argmax(axis=1) == torch_logits(checkpoint.model, images).argmax(axis=1)).mean()
    assert measure(torch_logits(checkpoint.model, images), runner, images).top1_agreement == expected < 0.5


def test_a_network_whose_logits_are_all_zero_still_compares(
    checkpoint: Checkpoint, fp32: Path, images: Pixels, tmp_path: Path
):
    torch.nn.init.zeros_(checkpoint.model.head.weight)
    torch.nn.init.zeros_(checkpoint.model.head.bias)
    (tmp_path / "half").mkdir()
    changed(fp32, tmp_path / "half", "head.weight", 0)
    parity = measure(
        torch_logits(checkpoint.model, images),
        changed(tmp_path / "half" / "changed.onnx", tmp_path, "head.bias", 0),
        images,
    )
    assert (parity.relative_difference, parity.batch_difference) == (0, 0)


class Swaying:
    """A graph whose answer depends on how many pictures it is given: by `amount` for each."""

    def __init__(self, checkpoint: Checkpoint, amount: float) -> None:
        self._model, self._amount = checkpoint.model, np.float32(amount)

    def logits(self, pixels: Pixels) -> np.ndarray:
        return torch_logits(self._model, pixels) + self._amount * len(pixels)


def test_the_same_picture_in_batches_of_other_sizes_is_compared(checkpoint: Checkpoint, images: Pixels):
    span = float(np.ptp(torch_logits(checkpoint.model, images)))
    parity = measure(torch_logits(checkpoint.model, images), Swaying(checkpoint, 1e-4 * span), images)  # type: ignore[arg-type]
    assert parity.batch_difference == pytest.approx(7e-4, rel=0.01), "eight at once against one alone"
    assert parity.relative_difference == pytest.approx(32e-4, rel=0.01)


def test_the_runner_takes_pixels(checkpoint: Checkpoint, fp32: Path, images: Pixels):
    found = GraphRunner(fp32, 4).logits(images[:, ::-1])  # a view with negative strides, too
    expected = torch_logits(checkpoint.model, images[:, ::-1].copy())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_half_precision_is_run_without_the_optimizations_of_single_precision(bundle: Published, images: Pixels):
    path = bundle.graphs["fp16"].path
    expected = GraphRunner(bundle.graphs["fp32"].path, 4).logits(images)
    as_written, fused = (GraphRunner(path, 4, precision).logits(images) for precision in ("fp16", "fp32"))
    assert np.abs(as_written - expected).max() > 0
    assert np.abs(as_written - fused).max() > 0


# --- the bars ---


@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_bar_is_reached_by_what_is_just_at_it_and_missed_by_what_is_beyond(precision: Precision):
    thresholds = THRESHOLDS[precision]
    at = {
        "relative_difference": thresholds.difference,
        "batch_difference": thresholds.batch_difference,
        "top1_agreement": 1.0,
    }
    expect_equal(Parity(1000, **at), precision)
    for name, words in [
        ("relative_difference", "differ from torch's by"),
        ("batch_difference", "one batch to another"),
    ]:
        with pytest.raises(ExportError, match=rf"{precision}.onnx is not published: .* {words} .*; expected at most "):
            expect_equal(Parity(1000, **{**at, name: at[name] * 1.01}), precision)


def test_the_message_has_the_distance_and_the_bar():
    with pytest.raises(ExportError) as caught:
        expect_equal(Parity(1000, 0.01, 1.0, 0.0051), "int8")
    assert str(caught.value) == (
        "int8.onnx is not published: a picture's logits differ from one batch to another by 0.0051 of their range; "
        "expected at most 0.002."
    )


@pytest.mark.parametrize(
    ("precision", "num_pictures", "allowed"),
    [
        ("fp32", 8, 0), ("fp32", 100_000, 0),
        ("fp16", 8, 1), ("fp16", 32, 1), ("fp16", 199, 4), ("fp16", 10_000, 120),
        ("int8", 1, 1), ("int8", 32, 2), ("int8", 171, 9), ("int8", 1000, 40),
    ],
)  # fmt: skip
def test_so_many_pictures_may_have_another_best_label(precision: Precision, num_pictures: int, allowed: int):
    expect_equal(Parity(num_pictures, 0, 1 - allowed / num_pictures, 0), precision)
    if allowed < num_pictures:
        others = allowed + 1
        message = f"on {others} of {num_pictures} pictures its best label is not torch's; expected at most {allowed}"
        with pytest.raises(ExportError, match=message):
            expect_equal(Parity(num_pictures, 0, 1 - others / num_pictures, 0), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("parity", [Parity(8, float("nan"), 1.0, 0.0), Parity(8, 0.0, 1.0, float("nan"))])
def test_logits_that_are_not_numbers_are_refused(precision: Precision, parity: Parity):
    with pytest.raises(ExportError, match="by nan of their range"):
        expect_equal(parity, precision)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("num_pictures", [1, 10, 499])
def test_one_picture_may_always_be_lost(precision: Precision, num_pictures: int):
    reached = metrics(1.0, num_pictures)
    expect_accurate(metrics(1 - 1 / num_pictures, num_pictures), reached, precision)
    if num_pictures > 1:
        with pytest.raises(ExportError, match=rf"2 of {num_pictures} pictures less; expected at most 1 less"):
            expect_accurate(metrics(1 - 2 / num_pictures, num_pictures), reached, precision)


@pytest.mark.parametrize(
    ("precision", "num_pictures", "allowed"),
    [("fp16", 10_000, 5), ("fp16", 50_000, 25), ("int8", 1000, 2), ("int8", 10_000, 20), ("int8", 50_000, 100)],
)
def test_of_many_pictures_the_bars_share_may_be_lost(precision: Precision, num_pictures: int, allowed: int):
    reached = metrics(0.9359, num_pictures)
    expect_accurate(metrics(0.9359 - allowed / num_pictures, num_pictures), reached, precision)
    with pytest.raises(
        ExportError,
        match=rf"{precision}.onnx is not published: its top-1 is 93.\d\d% and fp32's 93.59%, "
        rf"{allowed + 1} of {num_pictures} pictures less; expected at most {allowed} less",
    ):
        expect_accurate(metrics(0.9359 - (allowed + 1) / num_pictures, num_pictures), reached, precision)


def test_more_may_always_be_right():
    expect_accurate(metrics(1.0, 10_000), metrics(0.5, 10_000), "int8")


def test_the_bars_are_those_that_were_promised():
    assert (THRESHOLDS["fp16"].lost_points, THRESHOLDS["int8"].lost_points) == (0.05, 0.2)
    assert THRESHOLDS["fp32"].difference == 1e-4


def test_of_few_pictures_chance_may_lose_some_where_the_graphs_differ():
    reached = metrics(0.8, 400)  # labels differ on 16 pictures: two standard deviations of a coin are 8
    expect_accurate(metrics(0.8 - 8 / 400, 400), reached, "int8", top1_agreement=0.96)
    with pytest.raises(ExportError, match="9 of 400 pictures less; expected at most 8 less"):
        expect_accurate(metrics(0.8 - 9 / 400, 400), reached, "int8", top1_agreement=0.96)
    with pytest.raises(ExportError, match="expected at most 1 less"):
        expect_accurate(metrics(0.8 - 8 / 400, 400), reached, "int8")
