"""A scale covers what was seen, holds zero exactly, and is at most half a step off."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from export.calibration import Scale, calibrate
from export.dense import find_dense
from model.preprocess import Pixels
from tests.export.toy_graphs import dense_graph

FLOATS = st.floats(-1e6, 1e6, width=32)


def as_pixels(values: NDArray[np.uint8]) -> Pixels:
    """One pixel a picture."""
    return values.astype(np.uint8).reshape(-1, 1, 1, 1)


def calibrated(folder: Path, slope: float, offset: float, pixels: Pixels, percentile: float = 100.0) -> Scale:
    """The scale of slope * pixel + offset, which is what enters the second of two dense layers."""
    path = folder / "dense.onnx"
    num_patches = pixels.shape[1] * pixels.shape[2]
    onnx.save(dense_graph([([[slope]], [offset]), ([[1.0]], [0.0])], num_patches), path)
    return calibrate(path, pixels, 1, percentile=percentile)["dense_0"]


def quantized(values: NDArray[np.float32], scale: Scale) -> NDArray[np.float64]:
    """What is left of the values once they have been bytes."""
    in_bytes = np.clip(np.rint(values.astype(np.float64) / scale.scale) + scale.zero_point, 0, 255)
    return (in_bytes - scale.zero_point) * scale.scale


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(slope=FLOATS, offset=FLOATS, seen=st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_whatever_was_seen_is_at_most_half_a_step_off(tmp_path: Path, slope: float, offset: float, seen: list[int]):
    scale = calibrated(tmp_path, slope, offset, as_pixels(np.array(seen)))
    values = np.float32(slope) * np.array(seen, dtype=np.float32) + np.float32(offset)
    assert isinstance(scale.zero_point, int)
    assert 0 <= scale.zero_point <= 255
    assert 0 < scale.scale < np.inf
    most = max(1.0, float(np.abs(values).max()))
    assert np.abs(quantized(values, scale) - values).max() <= scale.scale / 2 + 1e-5 * most
    assert quantized(np.zeros(1, dtype=np.float32), scale) == 0


@pytest.mark.parametrize(
    ("slope", "offset", "expected"),
    [
        (1.0, 0.0, Scale(1.0, 0)),  # 0..255
        (1.0, 255.0, Scale(2.0, 0)),  # 255..510: nothing but positive
        (-1.0, -255.0, Scale(2.0, 255)),  # -510..-255: nothing but negative
        (2.0, -255.0, Scale(2.0, 128)),  # -255..255
        (0.0, 51.0, Scale(0.2, 0)),  # constant
        (0.0, -51.0, Scale(0.2, 255)),
    ],
)
def test_known_ranges(tmp_path: Path, slope: float, offset: float, expected: Scale):
    scale = calibrated(tmp_path, slope, offset, as_pixels(np.arange(256)))
    assert scale.scale == pytest.approx(expected.scale, rel=1e-6)
    assert scale.zero_point == expected.zero_point


def test_what_is_always_zero_has_a_scale_all_the_same(tmp_path: Path):
    scale = calibrated(tmp_path, 0.0, 0.0, as_pixels(np.arange(256)))
    assert (np.float32(scale.scale) > 0, scale.zero_point) == (True, 0)


def test_the_extremes_of_every_batch_count(tmp_path: Path):
    seen = np.full(100, 100)
    seen[[3, 97]] = 0, 200  # in the first batch and in the last, which is not full
    assert calibrated(tmp_path, 1.0, -100.0, as_pixels(seen)) == Scale(pytest.approx(200 / 255), 128)


def test_a_percentile_cuts_both_ends_of_each_batch_and_takes_their_mean(tmp_path: Path):
    ramp = np.linspace(0, 200, 101).astype(np.uint8).reshape(1, 1, 101, 1)
    batches = np.concatenate([np.repeat(ramp, 16, axis=0), np.repeat(ramp // 2, 16, axis=0)])
    scale = calibrated(tmp_path, 1.0, -100.0, batches, percentile=90.0)
    lows, highs = zip(
        *(np.percentile(batches[part] - 100.0, [10, 90]) for part in (slice(16), slice(16, 32))), strict=True
    )
    assert scale.scale == pytest.approx((np.mean(highs) - np.mean(lows)) / 255, rel=1e-6)
    assert scale.zero_point == round(-np.mean(lows) / scale.scale)
    assert scale.scale < calibrated(tmp_path, 1.0, -100.0, batches).scale


def test_a_percentile_keeps_zero_too(tmp_path: Path):
    assert calibrated(tmp_path, 1.0, 1000.0, as_pixels(np.arange(256)), percentile=99.0).zero_point == 0


def test_every_dense_layer_of_a_network_gets_the_range_that_its_input_had(fp32: Path, images: Pixels):
    names = [layer.input for layer in find_dense(onnx.load(fp32).graph)]
    scales = calibrate(fp32, images, 4)
    assert list(scales) == names
    assert len(set(names)) == 10
    assert scales[names[0]].scale == pytest.approx((int(images.max()) - 0) / 255), "the pixels themselves"
    for after_gelu in (names[2], names[4]):
        lowest = -scales[after_gelu].scale * scales[after_gelu].zero_point
        assert -0.18 < lowest < 0, "GELU goes no further down than -0.17"


def test_calibrating_leaves_the_file_as_it_was(fp32: Path, images: Pixels):
    before = fp32.read_bytes()
    calibrate(fp32, images[:1], 4)
    assert fp32.read_bytes() == before
