"""From what is asked for to a bundle in the store: once, told on the way, and again only where that is wanted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.pulling.asked import Asked
from cli.pulling.making import make
from cli.pulling.self_check import Outcome
from cli.pulling.store import Made, Store
from model.errors import CheckpointError
from model.hubs.source import Weights


class Maker:
    """Makes bundles of one file of text, and notes what it was asked and told."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "cache")
        self.weights = folder / "pets.npz"
        self.weights.write_bytes(b"weights")
        self.converted: list[tuple[str, ...] | None] = []
        self.told: list[str] = []
        self.failure: CheckpointError | None = None
        self.outcome = Outcome(True, "self-check passed.")

    def make(self, labels: tuple[str, ...] | None = None, *, again: bool = False) -> Made:
        asked = Asked(str(self.weights), labels)
        return make(
            asked, self.store, self.told.append, no_bar, again=again, convert=self.convert, check=lambda _: self.outcome
        )

    def convert(self, weights: Weights, labels: tuple[str, ...] | None, bundle: Path) -> list[str]:
        self.converted.append(labels)
        if self.failure is not None:
            raise self.failure
        bundle.mkdir(parents=True)
        (bundle / "fp32.onnx").write_bytes(weights.path.read_bytes())
        return ["Mixer S/16"]


@contextmanager
def no_bar(_: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


def test_a_bundle_is_made_once_under_the_weights_own_name(maker: Maker) -> None:
    made = maker.make()
    assert made.bundle.name == "pets"
    assert (made.bundle / "fp32.onnx").read_bytes() == b"weights"
    assert maker.make() == made
    assert maker.converted == [None]
    assert maker.told == [f"converting {maker.weights}", "Mixer S/16"]


def test_other_labels_make_another_bundle(maker: Maker) -> None:
    assert maker.make(("cat", "dog")).bundle != maker.make().bundle
    assert maker.converted == [("cat", "dog"), None]


def test_weights_that_are_written_again_are_converted_again(maker: Maker) -> None:
    first = maker.make()
    maker.weights.write_bytes(b"other weights")
    assert (maker.make().bundle / "fp32.onnx").read_bytes() == b"other weights"
    assert (first.bundle / "fp32.onnx").read_bytes() == b"weights"


def test_asked_for_again_the_same_weights_stay_as_they_are(maker: Maker) -> None:
    assert maker.make() == maker.make(again=True)
    assert len(maker.converted) == 1


def test_what_fails_leaves_nothing_and_can_be_tried_again(maker: Maker) -> None:
    maker.failure = CheckpointError("This is no Mixer.")
    with pytest.raises(CheckpointError, match="no Mixer"):
        maker.make()
    maker.failure = None
    assert maker.make().passed


def test_a_failed_check_is_kept_with_the_bundle_to_be_told_at_every_start(maker: Maker) -> None:
    maker.outcome = Outcome(False, "self-check failed: a cat is 'tench'.")
    made = maker.make()
    assert (made.passed, made.told) == (False, "self-check failed: a cat is 'tench'.")
    assert maker.make() == made
