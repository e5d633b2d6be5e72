"""The check of a new bundle on pictures that ship: what passes, what does not, and what is told."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.pulling import self_check
from cli.pulling.self_check import PICTURES, judge
from model.data.layout import IMAGENET_1K, read_labels
from tests.app.color_bundle import color_spec, write_bundle

WORDS = read_labels(IMAGENET_1K)
CAT, CUP = WORDS.index("Egyptian cat"), WORDS.index("espresso")


def logits(*best: tuple[int, ...]) -> self_check.Logits:
    """Of each picture the classes from the most probable one on."""
    made = np.zeros((len(best), len(WORDS)), np.float32)
    for row, classes in zip(made, best, strict=True):
        row[list(classes)] = np.arange(len(classes), 0, -1)
    return made


def test_a_cat_among_the_five_best_of_imagenet_1k_passes() -> None:
    outcome = judge(logits((3, 2, 1, 0, CAT), (CUP,)), WORDS)
    assert outcome.passed
    assert outcome.line == f"self-check passed: a cat is {WORDS[3]!r}, a cup of coffee is 'espresso'."


def test_a_cat_that_comes_sixth_fails_and_the_five_are_told() -> None:
    outcome = judge(logits((5, 4, 3, 2, 1, CAT), (CUP,)), WORDS)
    assert not outcome.passed
    assert outcome.line.startswith(f"self-check failed: a cat is {WORDS[5]!r}, ")
    assert "expected a cat. Its labels, its normalization or the file itself may be wrong." in outcome.line


def test_labels_with_all_their_synonyms_are_known_too() -> None:
    synonyms = [f"{word.title()}, some other word" for word in WORDS]
    assert judge(logits((CAT,), (CUP,)), synonyms).passed
    assert not judge(logits((1, 2, 3, 4, 5), (CUP,)), synonyms).passed


def test_a_model_of_other_things_passes_where_two_pictures_get_different_answers() -> None:
    outcome = judge(np.array([[1, 2], [2, 1]], np.float32), ("pets", "plants"))
    assert outcome == self_check.Outcome(True, "self-check passed: finite logits, and different ones for two pictures.")


@pytest.mark.parametrize("labels", [("pets", "plants"), WORDS[:2]])
def test_the_same_answer_to_a_cat_and_a_cup_fails(labels: tuple[str, ...]) -> None:
    outcome = judge(np.array([[1, 2], [1, 2.00001]], np.float32), labels)
    assert not outcome.passed
    assert "a cat and a cup get the same answer" in outcome.line


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_logit_that_is_no_number_fails(value: float) -> None:
    assert not judge(np.array([[1, value], [2, 1]], np.float32), ("pets", "plants")).passed


@pytest.mark.parametrize("channels", [1, 3])
def test_a_bundle_is_asked_as_the_service_would(tmp_path: Path, channels: int) -> None:
    outcome = self_check.check(write_bundle(tmp_path, color_spec(channels)))
    assert outcome.passed, outcome.line


def test_a_bundle_that_does_not_open_fails_and_says_why(tmp_path: Path) -> None:
    outcome = self_check.check(write_bundle(tmp_path, color_spec(), input_name="images"))
    assert not outcome.passed
    assert outcome.line.startswith("self-check failed: ")


def test_the_pictures_are_small_files_of_a_cat_and_a_cup() -> None:
    assert [path.name for path in PICTURES] == ["cat.jpg", "cup.jpg"]
    for path in PICTURES:
        assert path.stat().st_size < 40_000
        with Image.open(path) as image:
            assert min(image.size) >= 256, "nothing is enlarged for 224 pixels of 256"
    notice = (PICTURES[0].parent / "NOTICE").read_text()
    assert all(path.name in notice for path in PICTURES)
