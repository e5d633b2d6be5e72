"""The batch sizes that are prepared: few enough to capture, close enough to waste little."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.cuda_graphs import batch_buckets, bucket_for

TOPS = st.integers(1, 4096)


@pytest.mark.parametrize(
    ("top", "buckets"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 2, 3)),
        (5, (1, 2, 3, 4, 5)),
        (8, (1, 2, 3, 4, 6, 8)),
        (32, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)),
        (40, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40)),
    ],
)
def test_the_buckets_are_powers_of_two_with_one_between_and_the_largest_batch(
    top: int, buckets: tuple[int, ...]
) -> None:
    assert batch_buckets(top) == buckets


@given(TOPS)
def test_a_ladder_rises_from_one_to_the_largest_batch_in_few_rungs(top: int) -> None:
    buckets = batch_buckets(top)
    assert (buckets[0], buckets[-1]) == (1, top)
    assert list(buckets) == sorted(set(buckets))
    assert len(buckets) <= 2 * top.bit_length()


@given(st.data(), TOPS)
def test_a_batch_is_padded_to_the_next_rung_and_by_less_than_a_third_of_it(data: st.DataObject, top: int) -> None:
    buckets = batch_buckets(top)
    batch_size = data.draw(st.integers(1, top))
    bucket = bucket_for(batch_size, buckets)
    assert bucket == min(size for size in buckets if size >= batch_size)
    assert 3 * (bucket - batch_size) < bucket


@pytest.mark.parametrize("batch_size", [0, -1, 9])
def test_a_batch_that_no_rung_holds_is_refused(batch_size: int) -> None:
    with pytest.raises(ValueError, match=rf"^The batch has {batch_size} pictures; expected 1 to 8\. This is a bug\.$"):
        bucket_for(batch_size, batch_buckets(8))


def test_a_ladder_without_a_rung_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^max_batch_size is 0; expected at least 1\.$"):
        batch_buckets(0)
