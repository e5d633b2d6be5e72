import numpy as np
import pytest

from model.evaluation.confidence import energies
from model.evaluation.risk import auroc, risk_coverage


def test_the_curve_of_four_pictures_by_hand() -> None:
    """The surest is right, the next wrong, the next right, the last wrong."""
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    curve = risk_coverage(probabilities, np.array([1, 0, 0, 1]))
    assert curve.coverage == (0.25, 0.5, 0.75, 1.0)
    assert curve.error == pytest.approx((0, 1 / 2, 1 / 3, 1 / 2))
    assert curve.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert curve.error_at(0.5) == 0.5


def test_a_long_curve_is_thinned_and_its_area_is_not() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet((1, 1, 1), 5000)
    truth = generator.integers(0, 3, 5000)
    curve = risk_coverage(probabilities, truth)
    assert len(curve.coverage) == len(curve.error) == 101
    assert curve.error[-1] == pytest.approx((probabilities.argmax(axis=1) != truth).mean())
    assert curve.area == pytest.approx(2 / 3, abs=0.03), "confidence of no worth"


def test_energy_is_the_log_of_the_summed_exponentials_and_does_not_overflow() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [1000.0, 1000.0, 0.0]])
    assert energies(logits) == pytest.approx([np.log(np.exp([1, 2, 3]).sum()), 1000 + np.log(2)])


@pytest.mark.parametrize("decimals", [1, 8])
def test_auroc_counts_pairs(decimals: int) -> None:
    """Of all pairs, the share in which the familiar one is ahead; ties count half."""
    generator = np.random.default_rng(decimals)
    familiar, others = generator.normal(0.5, 1, 80).round(decimals), generator.normal(0, 1, 50).round(decimals)
    ahead = familiar[:, np.newaxis] - others
    assert auroc(familiar, others) == pytest.approx(((ahead > 0) + 0.5 * (ahead == 0)).mean())


def test_auroc_of_the_extremes() -> None:
    high, low = np.array([2.0, 3.0]), np.array([0.0, 1.0])
    assert (auroc(high, low), auroc(low, high), auroc(low, low)) == (1.0, 0.0, 0.5)
