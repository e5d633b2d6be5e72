"""A run on a CPU asks the session for what its graph gives, and for nothing else."""

import numpy as np
import pytest
from numpy.typing import NDArray

from app.engine.runners import SessionRunner
from tests.app.color_bundle import color_spec
from tests.app.fakes import FakeSession, means_of_colors, means_of_patches

SPEC = color_spec()


def images(count: int) -> list[NDArray[np.uint8]]:
    """That many different ones."""
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, SPEC.num_patches, SPEC.patch_bytes), dtype=np.uint8))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_run_gives_logits_and_embeddings_in_the_order_of_the_pictures(count: int) -> None:
    batch = images(count)
    session = FakeSession(SPEC, means_of_colors, embedding=means_of_patches)
    logits, embedding = SessionRunner(session, SPEC.patch_bytes).run(batch)
    assert logits == pytest.approx(means_of_colors(np.stack(batch)))
    assert embedding == pytest.approx(means_of_patches(np.stack(batch)))
    assert len(session.batches) == 1


def test_of_a_graph_without_embeddings_none_are_asked_for() -> None:
    batch = images(2)
    logits, embedding = SessionRunner(FakeSession(SPEC, means_of_colors)).run(batch)
    assert logits == pytest.approx(means_of_colors(np.stack(batch)))
    assert embedding is None
