"""Requests that had begun at closing time are inside; later ones are not, and nobody stays for ever."""

import asyncio

import pytest

from app.errors import ClientGone, NotReady
from app.http.disconnect import DISCONNECT, Disconnect
from app.http.in_flight import InFlight
from tests.app.virtual_time import in_virtual_time, now


async def test_after_closing_time_nobody_enters_and_the_refusal_is_told() -> None:
    refusals: list[str] = []
    in_flight = InFlight(lambda: refusals.append("refused"))
    with in_flight.entered({}):
        in_flight.start_draining()
    with (
        pytest.raises(NotReady, match="draining; expected a request to another instance") as refused,
        in_flight.entered({}),
    ):
        pytest.fail("It was closed.")
    assert refused.value.headers == {"Connection": "close"}
    assert refusals == ["refused"]


@in_virtual_time
async def test_the_wait_ends_with_the_last_to_leave() -> None:
    in_flight, leave = InFlight(lambda: None), asyncio.Event()

    async def visit() -> None:
        with in_flight.entered({}):
            await leave.wait()

    visits = [asyncio.create_task(visit()) for _ in range(2)]
    asyncio.get_running_loop().call_later(3, leave.set)
    await asyncio.wait(visits, timeout=1)
    in_flight.start_draining()
    await in_flight.wait(10)
    assert now() == 3
    await asyncio.gather(*visits)


@in_virtual_time
async def test_the_wait_ends_with_its_time_too() -> None:
    in_flight = InFlight(lambda: None)
    with in_flight.entered({}):
        await in_flight.wait(10)
    assert now() == 10


@in_virtual_time
async def test_who_leaves_with_an_error_has_left() -> None:
    in_flight = InFlight(lambda: None)
    with pytest.raises(ZeroDivisionError), in_flight.entered({}):
        raise ZeroDivisionError
    await in_flight.wait(10)
    assert now() == 0


@in_virtual_time
async def test_who_is_inside_when_the_drain_is_over_is_sent_away_a_moment_later() -> None:
    in_flight, entered = InFlight(lambda: None), asyncio.Event()

    async def stay() -> None:
        with in_flight.entered({}):
            entered.set()
            await asyncio.Event().wait()

    visit = asyncio.create_task(stay())
    await entered.wait()
    in_flight.start_draining()
    await in_flight.wait(10)
    assert not visit.done()  # whoever can be answered is answered first
    with pytest.raises(NotReady, match="shut down before an answer; expected a request to another instance"):
        await visit
    assert now() == pytest.approx(10.1)


@in_virtual_time
async def test_who_is_cancelled_for_another_reason_is_cancelled() -> None:
    in_flight, entered = InFlight(lambda: None), asyncio.Event()

    async def stay() -> None:
        with in_flight.entered({}):
            entered.set()
            await asyncio.Event().wait()

    visit = asyncio.create_task(stay())
    await entered.wait()
    visit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await visit
    await in_flight.wait(10)
    assert now() == 0


# --- clients that go ---


class Request:
    """The scope of a request, and the task that serves it until it may end."""

    def __init__(self) -> None:
        self.disconnect, self.in_flight = Disconnect(), InFlight()
        self.begun, self.may_end, self.was_cancelled = asyncio.Event(), asyncio.Event(), False

    async def serve(self) -> str:
        with self.in_flight.entered({DISCONNECT: self.disconnect}):
            self.begun.set()
            try:
                await self.may_end.wait()
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise
        return "done"


async def test_a_client_that_stays_gets_its_answer() -> None:
    request = Request()
    request.may_end.set()
    assert await request.serve() == "done"
    request.disconnect.set()  # too late to end anything
    await asyncio.sleep(0)


async def test_a_client_that_goes_ends_the_work_and_the_task_goes_on() -> None:
    request = Request()

    async def serve() -> str:
        with pytest.raises(ClientGone):
            await request.serve()
        async with asyncio.timeout(60):  # would take a cancellation that is left over for its own
            await asyncio.sleep(0)
        return "counted"

    task = asyncio.create_task(serve())
    await request.begun.wait()
    request.disconnect.set()
    assert await task == "counted"
    assert (request.was_cancelled, task.cancelling()) == (True, 0)


async def test_a_client_that_has_gone_already_is_not_worked_for() -> None:
    request = Request()
    request.disconnect.set()
    with pytest.raises(ClientGone):
        await request.serve()
    assert not request.begun.is_set()


async def test_an_error_of_the_work_is_its_own() -> None:
    disconnect = Disconnect()
    with pytest.raises(ZeroDivisionError), InFlight().entered({DISCONNECT: disconnect}):
        raise ZeroDivisionError
    disconnect.set()
    await asyncio.sleep(0)
