"""Small pictures that are decoded by the thread of their run."""

import asyncio
import gc
import io
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.decoding.cost_checks import TakesLong
from app.decoding.decoder import DecodeLimits
from app.engine.engine import Engine
from app.engine.instance import Instance
from app.engine.runners import SessionRunner
from app.errors import BadImage, NotReady, forget_frames
from app.inference.admission import Limits
from app.inference.answer import Wanted
from app.inference.classifier import Classified, Classifier
from app.inference.undecoded import Decoding, Undecoded, is_soon_decoded
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image
from tests.app.fakes import FakeSession, GatedSession, WatchedMetrics, engine_of, means_of_colors

SPEC = color_spec(canary=None)
PATIENCE_S = 60
PATCHES = np.zeros((SPEC.num_patches, SPEC.patch_bytes), np.uint8)
Build = Callable[..., Classifier]


@pytest.fixture
def metrics() -> WatchedMetrics:
    return WatchedMetrics()


@pytest.fixture
def decoding(request: pytest.FixtureRequest) -> Iterator[Decoding]:
    made = Decoding(getattr(request, "param", 1), DecodeLimits(max_bytes=1 << 20, max_pixels=50_000_000))
    yield made
    made.close()


@pytest.fixture
def build(metrics: WatchedMetrics, decoding: Decoding) -> Build:
    def classifier(engine: Engine, **limits: Any) -> Classifier:
        return Classifier(engine, limits=Limits(**limits), decoding=decoding, metrics=metrics)

    return classifier


@pytest.fixture
def held(decoding: Decoding) -> Iterator[threading.Event]:
    """Keeps the one thread that decodes busy, until it is set."""
    event = threading.Event()
    yield event
    event.set()


def answering() -> FakeSession:
    return FakeSession(SPEC, means_of_colors)


async def classify(classifier: Classifier, payload: bytes, *, patient: bool = False) -> Classified:
    with classifier.admit() as (permit,):
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        return await classifier.classify(permit, payload, wanted=Wanted(1), deadline=deadline, patient=patient)


def best(classified: Classified) -> str:
    return classified.predictions[0]["label"]


def broken(kind: str = "PNG") -> bytes:
    """Begins as a picture does, and is none."""
    whole = image(RED, kind=kind)
    return whole[: len(whole) // 2] + (b"\xff\xd9" if kind == "JPEG" else b"")


def png_with(name: bytes, count: int) -> bytes:
    """A picture with a chunk of that name and so many bytes."""
    whole, content = image(RED), b"k\x00" + bytes(count)
    return whole[:33] + struct.pack(">I", len(content)) + name + content + bytes(4) + whole[33:]


def large(kind: str, side: int = 2_000) -> bytes:
    """Few bytes for many pixels."""
    file = io.BytesIO()
    Image.new("L", (side, side), 200).save(file, kind)
    return file.getvalue()


# --- which pictures ---


@pytest.mark.parametrize(
    ("payload", "is_soon"),
    [
        (image(RED), True),
        (image(RED, kind="JPEG"), True),
        (image(RED, size=(500, 500)), True),
        (image(RED, size=(500, 501)), False),
        (image(RED, size=(250_001, 1)), False),
        (large("JPEG"), True),  # its header tells only whom it is read to
        (image(RED, kind="JPEG") + bytes(100_000), False),
        (image(RED, kind="BMP"), False),
        (image(RED, kind="WEBP"), False),
        (b"no picture", False),
        (b"", False),
        (image(RED)[:20], True),
        (image(RED, kind="JPEG")[:-2], False),
        (image(RED, kind="JPEG") + bytes(20), True),
        (image(RED) + bytes(5_000), False),
        (png_with(b"zTXt", 100), False),
        (png_with(b"tEXt", 100), True),
        (png_with(b"tEXt", 5_000), False),
    ],
    ids=[
        "png",
        "jpeg",
        "just",
        "too many",
        "long",
        "large jpeg",
        "bytes",
        "bmp",
        "webp",
        "none",
        "empty",
        "cut",
        "no end",
        "bytes behind it",
        "more head than pixels",
        "unfolds",
        "a note",
        "a long note",
    ],
)
def test_a_small_jpeg_or_png_of_few_pixels_is_soon_decoded(payload: bytes, *, is_soon: bool) -> None:
    assert is_soon_decoded(payload) is is_soon


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
async def test_a_small_picture_needs_no_thread_that_decodes(
    build: Build, decoding: Decoding, held: threading.Event, kind: str
) -> None:
    decoding.threads.submit(lambda: held.wait(PATIENCE_S))
    classified = await classify(build(engine_of(answering(), SPEC)), image(GREEN, kind=kind))
    assert best(classified) == "green"
    assert not held.is_set()
    assert 0 < classified.seconds["decode"] < PATIENCE_S


@pytest.mark.parametrize("why", ["patient", "another kind", "threads of a run", "a GPU"])
async def test_others_wait_for_such_a_thread(
    build: Build, decoding: Decoding, held: threading.Event, metrics: WatchedMetrics, why: str
) -> None:
    session = answering()
    engine = Engine(
        [Instance(lambda: SessionRunner(session))], SPEC,
        provider="cuda" if why == "a GPU" else "cpu", precision="fp32", fallback=None,
        intra_op_threads=2 if why == "threads of a run" else 1,
    )  # fmt: skip
    engine.pads = False
    payload = image(RED, kind="BMP") if why == "another kind" else image(RED)
    decoding.threads.submit(lambda: held.wait(PATIENCE_S))
    task = asyncio.create_task(classify(build(engine), payload, patient=why == "patient"))
    await metrics.until(lambda: metrics.inside == 1)
    await asyncio.sleep(0.05)
    assert session.batches == []
    held.set()
    assert best(await task) == "red"


async def test_one_that_turns_out_to_take_long_goes_to_such_a_thread(
    build: Build, decoding: Decoding, held: threading.Event
) -> None:
    session, payload = answering(), large("JPEG")
    assert len(payload) < 100_000
    decoding.threads.submit(lambda: held.wait(PATIENCE_S))
    classifier = build(engine_of(session, SPEC))
    task = asyncio.create_task(classify(classifier, payload))
    assert best(await classify(classifier, image(RED))) == "red"  # it does not keep others
    await asyncio.sleep(0.05)
    assert not task.done()
    held.set()
    classified = await task
    assert classified.batch_size == 1
    assert [len(batch) for batch in session.batches] == [1, 1]


# --- those of one batch ---


async def test_a_broken_picture_harms_none_beside_it_and_is_not_counted_in_the_run(
    build: Build, metrics: WatchedMetrics
) -> None:
    session = GatedSession(SPEC, means_of_colors)
    classifier = build(engine_of(session, SPEC))
    ahead = asyncio.create_task(classify(classifier, image(RED)))
    await session.entered.wait()
    payloads = (image(GREEN), broken(), broken("JPEG"), image(BLUE))
    sent = [asyncio.create_task(classify(classifier, payload)) for payload in payloads]
    await metrics.until(lambda: metrics.waiting == 4)
    session.open_gate()
    await ahead
    green, *wrong, blue = await asyncio.gather(*sent, return_exceptions=True)
    assert [type(one) for one in wrong] == [BadImage, BadImage]
    assert isinstance(green, Classified)
    assert isinstance(blue, Classified)
    assert (best(green), best(blue), green.batch_size) == ("green", "blue", 2)
    assert [len(batch) for batch in session.batches] == [1, 2]
    samples = metrics.samples()
    assert (samples["mixer_batch_size_count"], samples["mixer_batch_size_sum"]) == (2, 3)
    assert samples['mixer_images_total{outcome="bad_picture"}'] == 2
    assert metrics.inside == 0


async def test_a_broken_picture_leaves_nothing_for_the_garbage_collector(build: Build) -> None:
    classifier = build(engine_of(answering(), SPEC))
    errors: list[weakref.ref[BadImage]] = []

    async def ask() -> None:
        try:
            await classify(classifier, broken())
        except BadImage as error:
            forget_frames(error)  # as whoever answers a request does
            errors.append(weakref.ref(error))

    gc.disable()
    try:
        await asyncio.create_task(ask())
        await classify(classifier, image(RED))  # another one has its turn in the thread
        await asyncio.sleep(0)
        assert [one() for one in errors] == [None]
    finally:
        gc.enable()


async def test_where_all_are_broken_nothing_runs(build: Build, metrics: WatchedMetrics) -> None:
    session = answering()
    classifier = build(engine_of(session, SPEC))
    with pytest.raises(BadImage):
        await classify(classifier, broken())
    assert session.batches == []
    assert metrics.samples()["mixer_batch_size_count"] == 0
    assert best(await classify(classifier, image(RED))) == "red"


async def test_the_stages_of_each_add_up(build: Build, metrics: WatchedMetrics) -> None:
    session = GatedSession(SPEC)
    classifier = build(engine_of(session, SPEC))
    ahead = asyncio.create_task(classify(classifier, image(RED)))
    await session.entered.wait()
    began = time.perf_counter()
    payload = image(RED, size=(400, 400))
    sent = [asyncio.create_task(classify(classifier, payload)) for _ in range(8)]
    await metrics.until(lambda: metrics.waiting == 8)
    session.open_gate()
    await ahead
    all_of_them = await asyncio.gather(*sent)
    passed_s = time.perf_counter() - began
    decoding_s = sum(one.seconds["decode"] for one in all_of_them)
    for one in all_of_them:
        assert sum(one.seconds.values()) <= passed_s
        assert one.seconds["queue"] >= decoding_s - one.seconds["decode"]  # for the others, too
        assert one.batch_size == 8


async def test_a_run_that_fails_is_tried_in_parts_with_what_is_decoded(build: Build, metrics: WatchedMetrics) -> None:
    def fails_for_blue(patches: Any) -> Any:
        means = means_of_colors(patches)
        if (means.argmax(axis=1) == 2).any():
            raise RuntimeError("blue")
        return means

    session = GatedSession(SPEC, fails_for_blue)
    classifier, counted = build(engine_of(session, SPEC)), []
    decode = classifier.pixels_of

    def count(payload: Any, most_work: float, **more: Any) -> Any:
        counted.append(payload)
        return decode(payload, most_work, **more)

    classifier.pixels_of = count  # type: ignore[method-assign]
    ahead = asyncio.create_task(classify(classifier, image(RED)))
    await session.entered.wait()
    sent = [asyncio.create_task(classify(classifier, image(color))) for color in (RED, GREEN, BLUE)]
    await metrics.until(lambda: metrics.waiting == 3)
    session.open_gate()
    await ahead
    red, green, blue = await asyncio.gather(*sent, return_exceptions=True)
    assert isinstance(red, Classified)
    assert isinstance(green, Classified)
    assert isinstance(blue, Exception)
    assert len(counted) == 4


@pytest.mark.parametrize("decoding", [2], indirect=True)
async def test_a_run_waits_for_no_memory(build: Build, decoding: Decoding, metrics: WatchedMetrics) -> None:
    session = answering()
    classifier, budget = build(engine_of(session, SPEC)), decoding.limits.budget
    with budget.taken(budget.capacity_bytes):
        waits = asyncio.create_task(classify(classifier, image(RED)))
        while not list(decoding.threads.under_way()):  # noqa: ASYNC110 -- its run ends, and one of two threads waits
            await asyncio.sleep(0.001)
        pixels = np.full((8, 8, 3), RED, np.uint8)
        assert best(await classify(classifier, pixels)) == "red"  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        assert not waits.done()
        assert classifier.stuck_s() == 0
    assert best(await waits) == "red"


async def test_of_a_batch_what_is_given_up_meanwhile_is_not_decoded(build: Build, metrics: WatchedMetrics) -> None:
    classifier = build(engine_of(answering(), SPEC))
    entered, gate, decode, decoded = threading.Event(), threading.Event(), classifier.pixels_of, []

    def slow(payload: Any, most_work: float, **more: Any) -> Any:
        decoded.append(payload)
        if payload == image(BLUE):
            entered.set()
            gate.wait(PATIENCE_S)
        return decode(payload, most_work, **more)

    classifier.pixels_of = slow  # type: ignore[method-assign]
    first, second = (asyncio.create_task(classify(classifier, image(color))) for color in (BLUE, RED))
    await asyncio.to_thread(entered.wait, PATIENCE_S)
    second.cancel()
    await asyncio.sleep(0.01)
    gate.set()
    assert best(await first) == "blue"
    assert decoded == [image(BLUE)]
    assert metrics.samples()["mixer_batch_size_sum"] == 1


async def test_one_that_goes_to_a_thread_after_all_waited_in_the_queue(build: Build, metrics: WatchedMetrics) -> None:
    session = GatedSession(SPEC, means_of_colors)
    classifier = build(engine_of(session, SPEC))
    ahead = asyncio.create_task(classify(classifier, image(RED)))
    await session.entered.wait()
    late = asyncio.create_task(classify(classifier, large("JPEG")))
    await metrics.until(lambda: metrics.waiting == 1)
    await asyncio.sleep(0.3)
    session.open_gate()
    await ahead
    assert (await late).seconds["queue"] >= 0.3


@pytest.mark.parametrize("payload", [large("JPEG"), broken()], ids=["takes long", "broken"])
async def test_what_does_not_run_is_no_answer_that_the_rate_counts(build: Build, payload: bytes) -> None:
    classifier, told = build(engine_of(answering(), SPEC)), []
    answered = classifier.batcher.admission.answered

    def count(images: int, now: float) -> None:
        told.append(images)
        answered(images, now)

    classifier.batcher.admission.answered = count  # type: ignore[method-assign]
    await asyncio.gather(classify(classifier, payload), return_exceptions=True)
    assert sum(told) == (1 if payload == large("JPEG") else 0)


# --- one that does not end ---


async def hanging(classifier: Classifier, gate: threading.Event) -> "asyncio.Task[Classified]":
    """A request whose picture is being decoded until the gate is open."""
    entered, decode = threading.Event(), classifier.pixels_of

    def hang(payload: Any, most_work: float, **more: Any) -> Any:
        if payload == image(BLUE):
            entered.set()
            gate.wait(PATIENCE_S)
        return decode(payload, most_work, **more)

    classifier.pixels_of = hang  # type: ignore[method-assign]
    endless = asyncio.create_task(classify(classifier, image(BLUE)))
    await asyncio.to_thread(entered.wait, PATIENCE_S)
    return endless


async def test_one_that_does_not_end_is_seen_and_all_others_are_told(build: Build, decoding: Decoding) -> None:
    gate = threading.Event()
    classifier = build(engine_of(answering(), SPEC))
    endless = await hanging(classifier, gate)
    behind = asyncio.create_task(classify(classifier, image(RED)))
    await asyncio.sleep(0)
    (found,) = decoding.under_way()
    assert (found.payload_bytes, found.number < 0, found.thread.name) == (len(image(BLUE)), True, "instance")
    decoding.abandon(found._replace(began=0.0), BadImage("Another."))
    assert not endless.done()
    decoding.abandon(found, BadImage("Too long."))
    with pytest.raises(BadImage, match="Too long"):
        await endless
    with pytest.raises(NotReady, match="expected a request to another instance"):
        await behind
    gate.set()


async def test_other_instances_go_on(build: Build, decoding: Decoding) -> None:
    gate = threading.Event()
    classifier = build(engine_of(answering(), SPEC, instances=2), instances=2)
    endless = await hanging(classifier, gate)
    (found,) = decoding.under_way()
    decoding.abandon(found, BadImage("Too long."))
    with pytest.raises(BadImage, match="Too long"):
        await endless
    assert best(await classify(classifier, image(GREEN))) == "green"
    gate.set()


def test_a_thread_of_a_run_is_told_of_while_it_decodes_alone(decoding: Decoding) -> None:
    told: list[tuple[int, int]] = []
    decoding.tell_threads(lambda place, native_id: told.append((place, native_id)))
    for _ in range(2):
        decoding.decode(an_undecoded(), 0.0)
    own = threading.get_native_id()
    assert told == [(1, own), (1, 0)] * 2


def test_threads_of_runs_have_places_of_their_own(decoding: Decoding) -> None:
    told: list[int] = []
    decoding.tell_threads(lambda place, native_id: told.append(place))
    entered = threading.Barrier(3)

    def work(payload: bytes, most_work: float) -> tuple[Any, float]:
        entered.wait(PATIENCE_S)
        return PATCHES, 0.0

    threads = [threading.Thread(target=decoding.decode, args=(an_undecoded(work), 0.0)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [1, 1, 2, 2, 3, 3]


def an_undecoded(work: Any = lambda payload, most_work: (PATCHES, 0.0)) -> Undecoded:
    return Undecoded(b"file", work, lambda picture, error: None)


def test_what_is_decoded_is_decoded_once(decoding: Decoding) -> None:
    calls: list[float] = []

    def work(payload: bytes, most_work: float) -> tuple[Any, float]:
        calls.append(most_work)
        return PATCHES, 0.25

    picture = an_undecoded(work)
    assert decoding.decode(picture, 0.0) is decoding.decode(picture, 1.0) is PATCHES
    assert (calls, picture.decode_s) == ([250_000], 0.25)


def test_a_run_decodes_for_a_twentieth_of_a_second_at_most(decoding: Decoding) -> None:
    with pytest.raises(TakesLong):
        decoding.decode(an_undecoded(), 0.051)


async def test_what_nobody_waits_for_is_not_decoded(decoding: Decoding) -> None:
    picture = an_undecoded()
    picture.answer = asyncio.get_running_loop().create_future()
    picture.answer.cancel()
    with pytest.raises(TakesLong):
        decoding.decode(picture, 0.0)


def test_one_that_takes_long_is_not_under_way_any_more(decoding: Decoding) -> None:
    def work(payload: bytes, most_work: float) -> tuple[Any, float]:
        assert [found.payload_bytes for found in decoding.under_way()] == [4]
        raise TakesLong

    with pytest.raises(TakesLong):
        decoding.decode(an_undecoded(work), 0.0)
    assert list(decoding.under_way()) == []
