"""Requests that had begun at closing time are inside; later ones are not, and nobody stays for ever."""

import asyncio

import pytest

from app.errors import NotReady
from app.http.in_flight import Drain
from tests.app.virtual_time import in_virtual_time, now


async def test_after_closing_time_nobody_enters_and_the_refusal_is_told() -> None:
    refusals: list[str] = []
    drain = Drain(lambda: refusals.append("refused"))
    with drain.enter():
        drain.start()
    with pytest.raises(NotReady, match="draining; expected a request to another instance") as refused, drain.enter():
        pytest.fail("It was closed.")
    assert refused.value.headers == {"Connection": "close"}
    assert refusals == ["refused"]


@in_virtual_time
async def test_the_wait_ends_with_the_last_to_leave() -> None:
    drain, leave = Drain(lambda: None), asyncio.Event()

    async def visit() -> None:
        with drain.enter():
            await leave.wait()

    visits = [asyncio.create_task(visit()) for _ in range(2)]
    asyncio.get_running_loop().call_later(3, leave.set)
    await asyncio.wait(visits, timeout=1)
    drain.start()
    await drain.wait(10)
    assert now() == 3
    await asyncio.gather(*visits)


@in_virtual_time
async def test_the_wait_ends_with_its_time_too() -> None:
    drain = Drain(lambda: None)
    with drain.enter():
        await drain.wait(10)
    assert now() == 10


@in_virtual_time
async def test_who_leaves_with_an_error_has_left() -> None:
    drain = Drain(lambda: None)
    with pytest.raises(ZeroDivisionError), drain.enter():
        raise ZeroDivisionError
    await drain.wait(10)
    assert now() == 0


@in_virtual_time
async def test_who_is_inside_when_the_drain_is_over_is_sent_away_a_moment_later() -> None:
    drain, entered = Drain(lambda: None), asyncio.Event()

    async def stay() -> None:
        with drain.enter():
            entered.set()
            await asyncio.Event().wait()

    visit = asyncio.create_task(stay())
    await entered.wait()
    drain.start()
    await drain.wait(10)
    assert not visit.done()  # whoever can be answered is answered first
    with pytest.raises(NotReady, match="shut down before an answer; expected a request to another instance"):
        await visit
    assert now() == pytest.approx(10.1)


@in_virtual_time
async def test_who_is_cancelled_for_another_reason_is_cancelled() -> None:
    drain, entered = Drain(lambda: None), asyncio.Event()

    async def stay() -> None:
        with drain.enter():
            entered.set()
            await asyncio.Event().wait()

    visit = asyncio.create_task(stay())
    await entered.wait()
    visit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await visit
    await drain.wait(10)
    assert now() == 0
