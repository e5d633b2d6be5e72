"""Work done ahead comes in order, and no more of it than was allowed."""

import threading
from collections.abc import Iterator
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
    asked: list[int] = []

    def items() -> Iterator[int]:
        for item in range(10):
            asked.append(item)
            yield item

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, str, items(), ahead=3)
        assert next(results) == "0"
        assert asked == [0, 1, 2, 3]
        assert list(results) == list("123456789")


def test_an_error_comes_where_its_item_would() -> None:
    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, lambda item: 1 // item, [1, 0], ahead=4)
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
