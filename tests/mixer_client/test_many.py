"""Many images: their order, how many are in hand, and errors in place of answers."""

import asyncio
import mmap
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mixer_client import AsyncClient, BadImage, BadInput, Client, Result
from tests.mixer_client.stand_in import Service, busy, classified, problem

COUNT = 50


def numbered(count: int = COUNT) -> Iterator[bytes]:
    return (b"%d" % number for number in range(count))


async def numbered_later(count: int = COUNT) -> AsyncIterator[bytes]:
    for image in numbered(count):
        await asyncio.sleep(0)
        yield image


def answering(request: httpx.Request) -> httpx.Response:
    """The label is the image; every seventh is none."""
    number = request.content.decode()
    if int(number) % 7 == 0:
        return problem(400, "bad_picture", f"{number} is no picture.")
    return classified(predictions=[{"label": number, "index": 0, "probability": 1.0}])


def in_threads(images: Any, transport: httpx.MockTransport, **options: Any) -> list[Result]:
    with Client(transport=transport) as client:
        return list(client.classify_many(images, **options))


def in_tasks(images: Any, transport: httpx.MockTransport, **options: Any) -> list[Result]:
    async def asking() -> list[Result]:
        async with AsyncClient(transport=transport) as client:
            return [result async for result in client.classify_many(images, **options)]

    return asyncio.run(asking())


both = pytest.mark.parametrize("many", [in_threads, in_tasks])


def expect_whole(results: list[Result]) -> None:
    for result in results:
        assert result.image == b"%d" % result.position
        if result.position % 7 == 0:
            assert isinstance(result.error, BadImage)
            assert result.classification is None
        else:
            assert result.error is None
            assert result.classification is not None
            assert result.classification.label == str(result.position)


@both
@pytest.mark.parametrize("concurrency", [1, 3, 8, 100])
def test_every_image_has_its_answer_or_its_error_in_the_order_given(concurrency: int, many: Any) -> None:
    results = many(numbered(), httpx.MockTransport(answering), concurrency=concurrency)
    assert [result.position for result in results] == list(range(COUNT))
    expect_whole(results)


@both
def test_without_an_order_every_image_has_its_answer_too(many: Any) -> None:
    results = many(numbered(), httpx.MockTransport(answering), ordered=False)
    assert sorted(result.position for result in results) == list(range(COUNT))
    expect_whole(results)


def test_images_may_come_asynchronously() -> None:
    results = in_tasks(numbered_later(), httpx.MockTransport(answering), concurrency=4)
    assert [result.position for result in results] == list(range(COUNT))
    expect_whole(results)


@both
def test_no_images_have_no_answers(many: Any) -> None:
    assert many([], Service(classified()).transport) == []


@both
def test_a_file_that_cannot_be_read_is_an_error_in_its_place(many: Any, tmp_path: Path) -> None:
    results = many([tmp_path / "none.jpg", b"1", 3], httpx.MockTransport(answering))
    assert isinstance(results[0].error, BadInput)
    assert "none.jpg cannot be read: No such file or directory." in str(results[0].error)
    assert results[1].classification is not None
    assert "is of type int" in str(results[2].error)


@both
def test_what_the_images_raise_comes_after_the_answers_to_those_before_it(many: Any) -> None:
    seen = []

    def breaking() -> Iterator[bytes]:
        yield from numbered(5)
        raise KeyError("a tape")

    def answered(request: httpx.Request) -> httpx.Response:
        seen.append(request.content)
        return answering(request)

    with pytest.raises(KeyError, match="a tape"):
        many(breaking(), httpx.MockTransport(answered), concurrency=2)
    assert len(seen) == 5


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_impossible_concurrency_is_refused_at_the_call(kind: type[Client | AsyncClient]) -> None:
    with pytest.raises(BadInput, match="concurrency is 0; expected at least 1"):
        kind().classify_many([], concurrency=0)


def test_the_first_answer_comes_before_the_next_image_is_read() -> None:
    """As where images come from a camera."""
    read = []

    def camera() -> Iterator[bytes]:
        for image in numbered():
            read.append(image)
            yield image

    with Client(transport=httpx.MockTransport(answering)) as client:
        results = client.classify_many(camera(), concurrency=4)
        assert next(results).position == 0
        assert len(read) <= 8
        assert isinstance(results, Iterator)


@pytest.mark.parametrize("ordered", [True, False])
def test_one_slow_image_keeps_only_so_many_in_hand(ordered: bool) -> None:
    read, may_answer, others = [], threading.Event(), threading.Event()

    def images() -> Iterator[bytes]:
        for image in numbered():
            read.append(image)
            yield image

    def first_is_slow(request: httpx.Request) -> httpx.Response:
        if request.content == b"0":
            assert may_answer.wait(60)
        elif request.content == b"7":
            others.set()
        return answering(request)

    with Client(transport=httpx.MockTransport(first_is_slow)) as client:
        results = client.classify_many(images(), concurrency=4, ordered=ordered)
        positions: list[int] = []
        reader = threading.Thread(target=lambda: positions.extend(result.position for result in results))
        reader.start()
        assert others.wait(60)
        if ordered:
            assert len(read) <= 8
            assert positions == []
        may_answer.set()
        reader.join(60)
    assert sorted(positions) == list(range(COUNT))


async def test_one_slow_image_keeps_only_so_many_in_hand_of_tasks() -> None:
    read, may_answer, seventh = [], asyncio.Event(), asyncio.Event()

    def images() -> Iterator[bytes]:
        for image in numbered():
            read.append(image)
            yield image

    async def first_is_slow(request: httpx.Request) -> httpx.Response:
        if request.content == b"0":
            await may_answer.wait()
        elif request.content == b"7":
            seventh.set()
        return answering(request)

    async with AsyncClient(transport=httpx.MockTransport(first_is_slow)) as client:
        results = client.classify_many(images(), concurrency=4)
        first = asyncio.ensure_future(anext(results))
        await seventh.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(read) == 8
        assert not first.done()
        may_answer.set()
        assert (await first).position == 0
        assert [result.position async for result in results] == list(range(1, COUNT))


def test_who_stops_early_leaves_the_rest_unread() -> None:
    images = numbered(10_000)
    with Client(transport=httpx.MockTransport(answering)) as client:
        for result in client.classify_many(images, concurrency=4):
            if result.position == 3:
                break
    assert int(next(images)) < 100


def test_who_stops_in_a_pause_leaves_no_thread_that_waits() -> None:
    is_refused = threading.Event()

    def first_then_busy(request: httpx.Request) -> httpx.Response:
        if request.content == b"0":
            assert is_refused.wait(60)
            return classified()
        is_refused.set()
        return busy(3000)

    with Client(transport=httpx.MockTransport(first_then_busy), timeout_s=6000) as client:
        results = client.classify_many(numbered(), concurrency=4)
        assert next(results).position == 0
        threads = [one for one in threading.enumerate() if one.name.startswith("mixer-client")]
        assert len(threads) > 1  # one has answered, the others wait
        assert any(thread.is_alive() for thread in threads)
        results.close()  # type: ignore[attr-defined]  # it is a generator
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)


async def test_who_stops_early_leaves_the_rest_unread_of_tasks() -> None:
    images = numbered(10_000)
    async with AsyncClient(transport=httpx.MockTransport(answering)) as client:
        results = client.classify_many(images, concurrency=4)
        assert (await anext(results)).position == 0
        await results.aclose()
    assert int(next(images)) < 100


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_memory_is_flat_over_twenty_thousand_images(kind: type[Client | AsyncClient]) -> None:
    """Each has 10 kB: all of them would be 200 MB."""
    transport = httpx.MockTransport(lambda _: classified())
    resident: list[int] = []

    def images() -> Iterator[bytes]:
        for number in range(20_000):
            if number % 1000 == 0:
                resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE)
            yield bytes([1]) * 10_000

    def in_threads() -> int:
        with Client(transport=transport) as client:
            return sum(result.classification is not None for result in client.classify_many(images()))

    async def in_tasks() -> int:
        async with AsyncClient(transport=transport) as client:
            return sum([result.classification is not None async for result in client.classify_many(images())])

    assert (in_threads() if kind is Client else asyncio.run(in_tasks())) == 20_000
    assert max(resident) - resident[1] < 10_000_000, resident
