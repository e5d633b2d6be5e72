import numpy as np
import pytest

from model.shifts.blur import convolved, line
from model.shifts.warp import fractal_noise, grid, sampled, smooth_noise


def test_sampling_at_its_own_places_changes_nothing() -> None:
    pictures = np.random.default_rng(0).random((2, 7, 9, 3), dtype=np.float32)
    assert sampled(pictures, *grid(7, 9)) == pytest.approx(pictures, abs=1e-6)


def test_between_two_pixels_is_their_mean() -> None:
    picture = np.array([[0.0, 1.0], [2.0, 5.0]], dtype=np.float32).reshape(1, 2, 2, 1)
    nothing = np.zeros((1, 1), dtype=np.float32)
    assert sampled(picture, nothing, nothing)[0, 0, 0, 0] == 2.0


def test_beyond_the_edge_is_the_edge_or_what_fills() -> None:
    picture = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    far = np.full((1, 1), 10, dtype=np.float32)
    assert sampled(picture, far, far)[0, 0, 0, 0] == 8
    assert sampled(picture, far, far, np.full((1, 1, 1, 1), -1, dtype=np.float32))[0, 0, 0, 0] == -1


@pytest.mark.parametrize("size", [(28, 28), (40, 224)])
def test_random_fields_fill_the_range_smoothly(size: tuple[int, int]) -> None:
    shape = (2, *size)
    clouds = fractal_noise(np.random.default_rng(0), shape)
    assert (clouds.min(), clouds.max(), clouds.shape) == (0, 1, shape)
    smooth = smooth_noise(np.random.default_rng(0), shape, 4)
    assert np.abs(np.diff(smooth, axis=2)).max() <= 4 / size[1] + 1e-3


def test_a_convolution_is_that_of_numpy() -> None:
    pictures = np.random.default_rng(0).random((1, 12, 15, 1), dtype=np.float32)
    kernel = line(4, 0.0)
    row = kernel[len(kernel) // 2] / kernel.sum()
    margin = len(row) // 2
    expected = np.convolve(np.pad(pictures[0, 3, :, 0], margin, mode="edge"), row, mode="valid")
    assert np.count_nonzero(kernel) == np.count_nonzero(row), "a level line is one row"
    assert convolved(pictures, kernel)[0, 3, :, 0] == pytest.approx(expected, abs=1e-6)
