import numpy as np
import pytest

from model.evaluation.scores import class_scores, confused_pairs, confusion_matrix, macro_f1, most_confused, worst_first

LABELS = ("cat", "dog", "eel")
TRUTH = np.array([0, 0, 0, 1, 1], dtype=np.int64)
PREDICTED = np.array([0, 0, 1, 1, 0])
CONFUSION = np.array([[2, 1, 0], [1, 1, 0], [0, 0, 0]])


def test_the_confusion_matrix_has_a_row_for_each_true_class() -> None:
    assert confusion_matrix(PREDICTED, TRUTH, 3).tolist() == CONFUSION.tolist()


def test_precision_recall_and_f1_by_hand() -> None:
    cat, dog, eel = class_scores(np.array([[3, 1, 0], [2, 2, 0], [0, 0, 0]]), LABELS)
    assert (cat.label, cat.num_pictures, cat.precision, cat.recall) == ("cat", 4, 3 / 5, 3 / 4)
    assert cat.f1 == pytest.approx(2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4))
    assert (dog.num_pictures, dog.precision, dog.recall, dog.f1) == (4, 2 / 3, 1 / 2, pytest.approx(4 / 7))
    assert eel.num_pictures == 0
    assert np.isnan([eel.precision, eel.recall, eel.f1]).all()


def test_a_class_that_is_never_found_has_an_f1_of_0() -> None:
    cat, _ = class_scores(np.array([[0, 2], [0, 2]]), ("cat", "dog"))
    assert (cat.recall, cat.f1) == (0, 0)


def test_classes_are_sorted_worst_first_and_those_without_pictures_left_out() -> None:
    scores = class_scores(CONFUSION, LABELS)
    assert [score.label for score in worst_first(scores)] == ["dog", "cat"]
    assert macro_f1(scores) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_confused_pairs_are_the_most_frequent_first_and_never_a_class_with_itself() -> None:
    pairs = confused_pairs(np.array([[9, 1, 3], [0, 9, 0], [2, 0, 9]]), LABELS, 2)
    assert [(pair.truth, pair.predicted, pair.count, pair.num_pictures) for pair in pairs] == [
        ("cat", "eel", 3, 13),
        ("eel", "cat", 2, 11),
    ]
    assert confused_pairs(np.diag([1, 2, 3]), LABELS, 5) == []


def test_the_most_confused_classes_come_in_the_order_of_the_labels() -> None:
    confusion = np.array([[9, 0, 1], [0, 9, 0], [4, 0, 9]])
    assert most_confused(confusion, 2).tolist() == [0, 2]
