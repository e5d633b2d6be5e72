"""How a head is judged and calibrated."""

import numpy as np
import pytest

from model.heads.learning import calibrated

pytestmark = pytest.mark.timeout(60)


def logits(
    wrong: int,
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Of 120 pictures of two classes, so many of them named wrongly, and none of them surely."""
    truth = (np.arange(120) % 2).astype(np.int64)
    named = np.where(np.arange(120) < wrong, 1 - truth, truth)
    return np.eye(2)[named], truth


def test_where_no_answer_is_wrong_the_temperature_is_1_and_label_sets_are_of_it():
    found = calibrated(*logits(wrong=0), "folds")
    assert found.temperature == 1.0
    assert found.conformal is not None
    assert found.conformal.scores[0] == pytest.approx(1 - 1 / (1 + np.exp(-1)), abs=1e-5)


def test_where_some_are_wrong_it_is_fitted():
    found = calibrated(*logits(wrong=12), "folds")
    assert found.temperature == pytest.approx(1 / np.log(9), rel=0.01)
