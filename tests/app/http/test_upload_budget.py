"""The bodies that are held at once are bounded in bytes: one more is refused, and an answer makes room."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadSettings, UploadsFull
from app.http.upload_budget import BodyReservation, UploadBudget
from app.settings import load
from app.system.quota import Quota
from tests.app.asgi import AsgiCall
from tests.app.color_bundle import RED, color_spec, image
from tests.app.fakes import GatedSession, engine_of
from tests.app.in_process import Serve, Service
from tests.app.problem_answers import expect_problem, expect_problem_body

FORM_BYTES = 64 << 10
LIMITS = {"max_image_bytes": 1000, "max_request_bytes": 1000, "upload_memory_bytes": 1000 + FORM_BYTES}
MANY = {"max_image_bytes": 60_000, "max_request_bytes": 60_000, "upload_memory_bytes": 60_000 + FORM_BYTES}


def begin(service: Service, *pieces: bytes) -> tuple[AsgiCall, "asyncio.Task[None]"]:
    """A body of which these pieces have been sent, and more are to come."""
    call = AsgiCall("/classify", {"content-type": "image/png"})
    for piece in pieces:
        call.send_body(piece, more=True)
    return call, asyncio.create_task(call.go(service.app))


async def test_beyond_the_most_bytes_a_body_is_refused_and_an_answer_makes_room(serve: Serve) -> None:
    async with serve(**MANY) as service:
        held = [begin(service, bytes(55_000)) for _ in range(2)]
        for call, _ in held:
            await call.listened.wait()
        refused, task = begin(service, bytes(10_000), bytes(10_000))
        await task
        assert refused.status == 429
        words = "The service holds 120000 of 125536 bytes of uploads; expected room for 10000. Try again in 1 s."
        assert expect_problem_body(refused.body, 429, "uploads_full") == words
        assert (b"retry-after", b"1") in refused.sent[0]["headers"]
        for call, task in held:
            call.send_body(b"")
            await task
            assert call.status == 400
        whole = await service.http.post("/classify", content=image(RED))
        assert whole.status_code == 200
        assert service.metrics.samples()['mixer_rejected_total{reason="uploads_full"}'] == 1


async def test_a_body_that_says_it_is_too_large_for_now_is_not_read(serve: Serve) -> None:
    async with serve(**MANY) as service:
        held = [begin(service, bytes(55_000)) for _ in range(2)]
        for call, _ in held:
            await call.listened.wait()
        late = AsgiCall("/classify", {"content-type": "image/png", "content-length": "50000"})
        await late.go(service.app)
        assert late.status == 429
        assert not late.listened.is_set()
        for call, task in held:
            call.hang_up()
            await task


@pytest.mark.parametrize("ending", ["hang up", "too large", "no form"])
async def test_whatever_becomes_of_a_request_its_bytes_go_with_it(ending: str, serve: Serve) -> None:
    async with serve(**MANY) as service:
        for _ in range(20):
            call, task = begin(service, bytes(50_000))
            await call.listened.wait()
            if ending == "hang up":
                call.hang_up()
            elif ending == "too large":
                call.send_body(bytes(50_000), more=True)
            else:
                call.send_body(b"")
            await task
        assert (await service.http.post("/classify", content=image(RED))).status_code == 200


async def test_a_picture_counts_until_it_is_answered(serve: Serve) -> None:
    spec = color_spec(canary=None)
    session = GatedSession(spec)
    payload = image(RED) + bytes(50_000)
    async with serve(engine_of(session, spec), **MANY) as service:
        running = [asyncio.create_task(service.http.post("/classify", content=payload)) for _ in range(2)]
        await session.entered.wait()
        await service.metrics.until(lambda: service.metrics.inside == 2)
        refused = await service.http.post("/classify", content=payload)
        expect_problem(refused, 429, "uploads_full", "expected room for")
        session.open_gate()
        assert [(await one).status_code for one in running] == [200, 200]
        assert (await service.http.post("/classify", content=payload)).status_code == 200


async def test_a_batch_counts_with_all_of_its_form(serve: Serve) -> None:
    async with serve(**MANY) as service:
        call, task = begin(service, bytes(55_000))
        other, other_task = begin(service, bytes(55_000))
        for one in (call, other):
            await one.listened.wait()
        files = [("file", (f"{index}.png", image(RED) + bytes(8000))) for index in range(3)]
        expect_problem(await service.http.post("/classify/batch", files=files), 429, "uploads_full", "expected room")
        for one, its_task in ((call, task), (other, other_task)):
            one.hang_up()
            await its_task
        assert (await service.http.post("/classify/batch", files=files)).status_code == 200


@pytest.mark.parametrize("flag", ["--max-image-bytes", "--max-request-bytes"])
def test_room_for_less_than_one_body_is_refused(flag: str) -> None:
    least = (90 << 20) + FORM_BYTES
    with pytest.raises(
        BadSettings, match=rf"upload_memory_bytes is {least - 1}; expected at least {least}, the larger"
    ):
        load([flag, str(90 << 20), "--upload-memory-bytes", str(least - 1)])
    assert load([flag, str(90 << 20), "--upload-memory-bytes", str(least)])


def test_what_other_processes_hold_counts_and_goes_only_with_their_answers() -> None:
    shares = memoryview(bytearray(16)).cast("d")
    ours, theirs = (UploadBudget(Quota(1000, shares, own), lambda: None) for own in (0, 1))
    with BodyReservation(theirs) as reservation:
        reservation.add(700)
        with BodyReservation(ours) as mine:
            mine.add(300)
            mine.add(0)
            for refused in (mine.add, mine.expect_room):
                with pytest.raises(
                    UploadsFull, match=r"holds 1000 of 1000 bytes of uploads; expected room for 1\. Try"
                ):
                    refused(1)
        assert theirs.room.taken == 700
    assert ours.room.taken == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 400)), max_size=60))
def test_never_more_is_held_than_fits_and_nothing_is_forgotten(steps: list[tuple[int, int]]) -> None:
    refusals: list[None] = []
    budget = UploadBudget(Quota(1000), lambda: refusals.append(None))
    reservations = {number: BodyReservation(budget) for number in range(5)}
    expected = dict.fromkeys(reservations, 0)
    for number, count in steps:
        if count == 0:
            reservations[number].__exit__(None, None, None)
            reservations[number], expected[number] = BodyReservation(budget), 0
            continue
        try:
            reservations[number].add(count)
            expected[number] += count
        except UploadsFull:
            assert sum(expected.values()) + count > 1000
            assert refusals.pop() is None
        assert budget.room.taken == sum(expected.values()) <= 1000
    assert not refusals
