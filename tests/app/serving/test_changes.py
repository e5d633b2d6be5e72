"""What a reload has changed, in words that are few and plain whatever a bundle says of itself."""

from typing import Any

import pytest

from app.engine.engine import Engine
from app.serving.changes import changes, in_words, nothing_has_changed
from tests.app.color_bundle import color_spec
from tests.app.fakes import FakeSession, engine_of


def engine(*labels: str, **others: Any) -> Engine:
    if labels:
        others |= {"labels": labels, "num_classes": len(labels), "canary": None}
    spec = color_spec(**others)
    return engine_of(FakeSession(spec), spec)


def changed(before: str, after: str) -> list[str]:
    """What has become of labels of one letter each."""
    return changes(engine(*before), engine(*after))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("ab", "abc", ["num_classes 2 -> 3", "labels: 1 added ('c')"]),
        ("abc", "ab", ["num_classes 3 -> 2", "labels: 1 removed ('c')"]),
        ("abc", "abd", ["labels: 1 added ('d'), 1 removed ('c')"]),
        ("abc", "bac", ["labels: 2 moved to another index ('b', 'a')"]),
        ("bc", "abc", ["num_classes 2 -> 3", "labels: 1 added ('a'), 2 moved to another index ('b', 'c')"]),
        ("aab", "ab", ["num_classes 3 -> 2", "labels: 1 removed ('a'), 1 moved to another index ('b')"]),
        ("abab", "abba", ["labels: 2 moved to another index ('a', 'b')"]),
        ("ab", "ab", []),
    ],
)
def test_labels_are_added_removed_or_moved(before: str, after: str, expected: list[str]) -> None:
    assert changed(before, after) == expected


def test_few_of_many_are_named() -> None:
    (_, words) = changed("a", "abcdefgh")
    assert words == "labels: 7 added ('b', 'c', 'd', ...)"


def test_a_long_label_is_cut_and_one_with_line_breaks_is_one_line() -> None:
    _, words = changes(engine("a"), engine("a", "x" * 10_000, "b\n2026 ERROR \x1b[31m"))
    assert words == f"labels: 2 added ('{'x' * 40}...', 'b\\n2026 ERROR \\x1b[31m')"


@pytest.mark.parametrize(
    ("field", "before", "after", "words"),
    [
        ("name", "a", "b", "name 'a' -> 'b'"),
        ("version", "1", "2", "version '1' -> '2'"),
        ("image_size", 8, 16, "image_size 8 -> 16"),
        ("patch_size", 4, 8, "patch_size 4 -> 8"),
        ("temperature", 1.0, 1.25, "temperature 1.0 -> 1.25"),
        ("energy_threshold", None, 2.5, "energy_threshold None -> 2.5"),
        ("interpolation", "bicubic", "nearest", "interpolation 'bicubic' -> 'nearest'"),
    ],
)
def test_what_clients_notice_is_told_with_both_values(field: str, before: Any, after: Any, words: str) -> None:
    assert changes(engine(**{field: before}), engine(**{field: after})) == [words]


def test_other_channels_and_another_precision_are_told() -> None:
    grey = engine(*"abc", channels=1)
    grey.precision = "int8"
    assert changes(engine(*"abc"), grey) == ["channels 3 -> 1", "precision 'fp32' -> 'int8'"]


def test_in_a_line_there_are_the_changes_or_the_reason_or_that_there_are_none() -> None:
    assert in_words("a", "swapped", None, ["x 1 -> 2", "y 3 -> 4"]) == "a swapped: x 1 -> 2; y 3 -> 4"
    assert in_words("a", "swapped", None, []) == "a swapped: its labels, sizes and temperature are as they were"
    assert in_words("a", "refused", "It is bad.", []) == "a refused: It is bad."
    assert in_words("a", "unchanged", None, []) == "a unchanged"


def test_nothing_has_changed_only_where_every_bundle_is_as_it_was() -> None:
    assert nothing_has_changed(["unchanged", "unchanged"])
    assert not nothing_has_changed(["unchanged", "removed"])
