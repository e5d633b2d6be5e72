"""Work done ahead comes in order, and no more of it than was allowed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from model.data.ahead import in_order


def test_results_come_in_the_order_of_their_items_whoever_is_ready_first() -> None:
    last = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert last.wait(60)
        if item == 2:
            last.set()
        return item * 10

    with ThreadPoolExecutor(2) as pool:
        assert list(in_order(pool, work, range(3), ahead=2)) == [0, 10, 20]


def test_no_more_is_begun_than_so_many_ahead() -> None:
    begun: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        results = in_order(pool, begun.append, range(10), ahead=3)
        assert next(results) is None
        assert max(begun) <= 3
        assert len(list(results)) == 9
    assert sorted(begun) == list(range(10))


def test_an_error_comes_where_its_item_would() -> None:
    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, lambda item: 1 // item, [1, 0], ahead=4)
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
