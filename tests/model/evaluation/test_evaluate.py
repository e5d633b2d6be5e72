import math

import numpy as np
import pytest

from model.data.dataset import ImageSet
from model.evaluation.evaluate import (
    ErrorByChance,
    accuracy_words,
    calibration_error,
    calibration_error_by_chance,
    calibration_words,
    evaluate,
    evaluate_logits,
    fit_temperature,
    wilson_interval,
)
from tests.model.toys import random_pixels


def _logits(probabilities: list[list[float]]) -> np.ndarray:
    return np.log(np.array(probabilities))


def test_top1_loss_and_calibration_error_by_hand() -> None:
    evaluation = evaluate_logits(_logits([[0.8, 0.2], [0.8, 0.2], [0.62, 0.38]]), np.array([0, 1, 1]))
    assert evaluation.num_pictures == 3
    assert evaluation.top1 == pytest.approx(1 / 3)
    assert evaluation.top5 == 1.0
    assert evaluation.loss == pytest.approx(-(math.log(0.8) + math.log(0.2) + math.log(0.38)) / 3)
    # two pictures at confidence 0.8, one of them right; one at 0.62, wrong
    assert evaluation.calibration_error == pytest.approx((abs(1 - 1.6) + abs(0 - 0.62)) / 3)


@pytest.mark.parametrize(("label", "top1", "top5"), [(6, 1.0, 1.0), (2, 0.0, 1.0), (1, 0.0, 0.0), (0, 0.0, 0.0)])
def test_top5_holds_the_five_best(label: int, top1: float, top5: float) -> None:
    evaluation = evaluate_logits(np.arange(7.0)[np.newaxis], np.array([label]))
    assert (evaluation.top1, evaluation.top5) == (top1, top5)


def test_equal_logits_are_ranked_by_index_in_top1_and_in_top5_alike() -> None:
    evaluation = evaluate_logits(np.zeros((10, 10)), np.arange(10))
    assert (evaluation.top1, evaluation.top5) == (0.1, 0.5)


def test_huge_logits_do_not_overflow() -> None:
    evaluation = evaluate_logits(np.array([[5000.0, -5000.0]]), np.array([1]))
    assert evaluation.loss == pytest.approx(10_000)
    assert evaluation.calibration_error == 1.0


def test_a_temperature_divides_the_logits() -> None:
    logits, labels = np.array([[3.0, 0.0, 1.0], [0.0, 2.0, 1.0]]), np.array([0, 2])
    warm = evaluate_logits(logits, labels, temperature=2.0)
    assert warm == evaluate_logits(logits / 2, labels)
    assert warm.top1 == evaluate_logits(logits, labels).top1
    assert warm.loss != evaluate_logits(logits, labels).loss


def test_calibration_error_is_0_where_confidence_is_accuracy() -> None:
    probabilities = np.array([[0.75, 0.25]] * 4)
    assert calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0)


def test_calibration_gaps_of_one_bin_cancel_and_of_two_do_not() -> None:
    one_bin = np.array([[0.5, 0.5], [0.53, 0.47]])  # 15 bins: both between 7/15 and 8/15
    two_bins = np.array([[0.5, 0.5], [0.54, 0.46]])
    assert calibration_error(one_bin, np.array([0, 1])) == pytest.approx(abs(1 - 1.03) / 2)
    assert calibration_error(two_bins, np.array([0, 1])) == pytest.approx((0.5 + 0.54) / 2)


def test_chance_alone_makes_the_error_that_can_be_reckoned() -> None:
    # one bin: the mean of |k / n - p| for k of Binomial(n, p), by its sum; its 95th percentile, by its distribution
    count, confidence = 20, 0.7
    chances = [math.comb(count, k) * confidence**k * (1 - confidence) ** (count - k) for k in range(count + 1)]
    gaps = [abs(k / count - confidence) for k in range(count + 1)]
    chance = calibration_error_by_chance(np.array([[confidence, 1 - confidence]] * count))
    assert chance.mean == pytest.approx(sum(gap * one for gap, one in zip(gaps, chances, strict=True)), rel=0.06)
    below = sum(one for gap, one in zip(gaps, chances, strict=True) if gap <= chance.percentile_95 + 1e-9)
    assert 0.94 < below < 0.98


def test_chance_makes_of_a_calibrated_classifier_what_its_error_is() -> None:
    generator = np.random.default_rng(5)
    probabilities = generator.dirichlet((0.5,) * 4, 300)
    drawn = (probabilities.cumsum(axis=1) > generator.random((300, 300, 1))).argmax(axis=2)
    errors = [calibration_error(probabilities, labels) for labels in drawn]
    chance = calibration_error_by_chance(probabilities)
    assert chance.mean == pytest.approx(np.mean(errors), rel=0.05)
    assert chance.percentile_95 == pytest.approx(np.percentile(errors, 95), rel=0.1)
    assert chance.percentile_95 > chance.mean > 0.02


def test_chance_makes_nothing_of_certainty_and_less_of_more_pictures_and_is_the_same_each_time() -> None:
    assert calibration_error_by_chance(np.array([[1.0, 0.0]])) == ErrorByChance(0.0, 0.0)
    few, many = (np.array([[0.6, 0.4], [0.9, 0.1]] * count) for count in (20, 2000))
    assert calibration_error_by_chance(few) == calibration_error_by_chance(few)
    assert calibration_error_by_chance(many).mean == pytest.approx(calibration_error_by_chance(few).mean / 10, rel=0.1)


def test_an_error_stands_beside_what_chance_makes_of_it_in_words() -> None:
    assert calibration_words(0.05066, ErrorByChance(0.031, 0.0461), 1341) == (
        "calibration error 0.0507 (0.0310 on average, at most 0.0461 in 95 % of draws, were it perfectly calibrated "
        "on 1,341 pictures)"
    )


def test_certainty_falls_in_the_last_bin() -> None:
    assert calibration_error(np.array([[1.0, 0.0], [0.95, 0.05]]), np.array([0, 1])) == pytest.approx(0.95 / 2)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_every_picture_is_run_once_in_order_whatever_the_batch_size(batch_size: int) -> None:
    images = ImageSet(random_pixels(7, 4, 4, 1), np.arange(7) % 2)
    batches = []

    def logits_of(pixels: np.ndarray) -> np.ndarray:
        batches.append(pixels)
        return pixels[:, 0, 0, 0, np.newaxis] * np.array([0.01, 0.02], dtype=np.float32)

    evaluation = evaluate(logits_of, images, batch_size=batch_size, temperature=0.5)
    np.testing.assert_array_equal(np.concatenate(batches), images.pixels)
    assert max(len(batch) for batch in batches) <= batch_size
    whole = logits_of(images.pixels).astype(np.float64)
    assert evaluation == evaluate_logits(whole, images.labels, 0.5)


def _answers(count: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true probabilities are known, multiplied by `sharpness`; labels drawn from those probabilities."""
    generator = np.random.default_rng(4)
    logits = generator.normal(0, 1.5, (count, 4))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([generator.choice(4, p=row) for row in probabilities])
    return logits * sharpness, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_made_logits_too_sharp_or_too_soft(sharpness: float) -> None:
    logits, labels = _answers(5000, sharpness)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(sharpness, rel=0.1)
    assert evaluate_logits(logits, labels, temperature).calibration_error < 0.02
    assert evaluate_logits(logits, labels, temperature).top1 == evaluate_logits(logits, labels).top1


def test_the_temperature_stays_within_bounds_where_every_answer_is_right_or_wrong() -> None:
    logits = np.tile([1.0, 0.0], (200, 1))
    assert fit_temperature(logits, np.zeros(200, dtype=np.int64)) == pytest.approx(0.25)
    assert fit_temperature(logits, np.ones(200, dtype=np.int64)) == pytest.approx(4.0)


def test_few_pictures_say_nothing_of_the_temperature() -> None:
    assert fit_temperature(*_answers(99, 3.0)) == 1.0


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(2, 3, 0.2077, 0.9385), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (191, 200, 0.9168, 0.9761), (0, 0, 0, 1)],
)
def test_the_interval_of_an_accuracy_is_wilsons(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_an_accuracy_is_said_with_its_interval() -> None:
    assert accuracy_words(2 / 3, 3) == "top-1 66.67% (95 % interval 20.8% to 93.9%)"
    evaluation = evaluate_logits(np.eye(3)[[0, 1, 1]], np.array([0, 1, 2]))
    assert evaluation.top1_interval == wilson_interval(2, 3)
