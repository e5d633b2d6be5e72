"""Each picture gets its own row of what its batch was given."""

import numpy as np

from app.engine.runners import Outputs
from app.inference.scores import scores_of

LOGITS = np.array([[1, 2, 3], [3, 2, 1]], dtype=np.float32)


def test_each_picture_has_its_own_row_of_the_embedding_which_is_not_copied() -> None:
    embedding = np.arange(8, dtype=np.float32).reshape(2, 4)
    found = [one.embedding for one in scores_of(Outputs(LOGITS, embedding), 1.0)]
    for row, expected in zip(found, embedding, strict=True):
        assert row is not None
        assert (row.dtype, row.tolist()) == (np.float32, expected.tolist())
        assert np.shares_memory(row, embedding)


def test_without_an_embedding_every_picture_has_its_scores_and_none() -> None:
    found = scores_of(Outputs(LOGITS), 1.0)
    assert [one.order.tolist() for one in found] == [[2, 1, 0], [0, 1, 2]]
    assert [one.embedding for one in found] == [None, None]
