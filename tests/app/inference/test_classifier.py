"""The life of one picture, from bytes to the most probable labels, without HTTP."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import numpy as np
import pytest

from app.decoding.cost_checks import DecodeBudget
from app.decoding.decoder import DecodeLimits
from app.engine.cuda_graphs import BatchBucketRunner
from app.engine.engine import Engine, EngineOptions, open_engine
from app.engine.instance import Instance
from app.errors import BadImage, DeadlinePassed, InferenceFailed, NotReady, QueueFull, TooManyPixels
from app.inference.admission import Limits
from app.inference.answer import Wanted
from app.inference.classifier import Classified, Classifier
from app.inference.scores import NoEmbedding
from app.inference.undecoded import Decoding
from app.system.quota import Quota
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image
from tests.app.fakes import (
    FakeGpuSession,
    FakeMemory,
    FakeSession,
    GatedSession,
    WatchedMetrics,
    engine_of,
    means_of_colors,
    means_of_patches,
)

SPEC = color_spec(canary=None)
Build = Callable[..., Classifier]
ONE = Wanted(top_k=1)


@pytest.fixture
def metrics() -> WatchedMetrics:
    return WatchedMetrics()


@pytest.fixture
def build(metrics: WatchedMetrics) -> Iterator[Build]:
    """Makes classifiers, and ends the threads that decode for them."""
    decoding = Decoding(1, DecodeLimits(max_bytes=1 << 20, max_pixels=1 << 20))

    def classifier(engine: Engine, **limits: Any) -> Classifier:
        limits_of_it = Limits(**{"instances": engine.instances, **limits})
        return Classifier(engine, limits=limits_of_it, decoding=decoding, metrics=metrics)

    yield classifier
    decoding.close()


async def classify(classifier: Classifier, payload: bytes, *, top_k: int = 1, timeout_s: float = 60) -> Classified:
    with classifier.admit() as (permit,):
        deadline = asyncio.get_running_loop().time() + timeout_s
        return await classifier.classify(permit, payload, wanted=Wanted(top_k), deadline=deadline)


def best(classified: Classified) -> str:
    return classified.predictions[0]["label"]


async def test_a_picture_gets_its_labels_most_probable_first(build: Build, engine: Engine) -> None:
    classified = await classify(build(engine), image((255, 0, 51)), top_k=3)
    labels = [(prediction["label"], prediction["index"]) for prediction in classified.predictions]
    assert labels == [("red", 0), ("blue", 2), ("green", 1)]
    total = math.exp(10) + math.exp(2) + 1
    expected = [math.exp(10) / total, math.exp(2) / total, 1 / total]
    assert [prediction["probability"] for prediction in classified.predictions] == pytest.approx(expected, rel=1e-5)
    assert classified.batch_size == 1
    assert set(classified.seconds) == {"decode", "queue", "infer"}
    assert min(classified.seconds.values()) >= 0


async def test_a_picture_of_any_size_and_format_is_the_same_to_it(build: Build, engine: Engine) -> None:
    classifier = build(engine)
    for payload in (
        image(GREEN, size=(300, 40), kind="JPEG"),
        image(GREEN, size=(1, 1)),
        image(GREEN, kind="GIF"),
    ):
        assert best(await classify(classifier, payload)) == "green"


async def test_an_answer_that_comes_as_its_client_goes_is_counted_as_thrown_away(
    build: Build, engine: Engine, metrics: WatchedMetrics
) -> None:
    class Told:
        def answer(self, patches: Any, deadline: float) -> "asyncio.Future[Any]":
            asked.set()
            return answer

    asked, answer = asyncio.Event(), asyncio.get_running_loop().create_future()
    permit: Any = Told()
    task = asyncio.create_task(
        build(engine).classify(permit, image(RED), wanted=ONE, deadline=asyncio.get_running_loop().time() + 60)
    )
    await asked.wait()
    answer.set_result("red")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert metrics.given_up == [("infer", "client_gone")]
    assert metrics.samples()['mixer_images_total{outcome="client_gone"}'] == 1


@pytest.mark.parametrize(
    "raised", [StopIteration(), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), asyncio.CancelledError()]
)
async def test_whatever_a_run_raises_is_an_error_of_its_picture_and_the_next_is_answered(
    raised: BaseException, build: Build
) -> None:
    outcomes = [raised]

    def answer(patches: Any) -> Any:
        if outcomes:
            raise outcomes.pop()
        return means_of_colors(patches)

    classifier = build(engine_of(FakeSession(SPEC, answer), SPEC))
    with pytest.raises(InferenceFailed, match="The engine failed on this picture"):
        await classify(classifier, image(RED))
    assert best(await classify(classifier, image(RED))) == "red"


class _Sizes(DecodeBudget):
    """Remembers what was asked for, which tells pictures of different sizes apart."""

    def __init__(self) -> None:
        super().__init__(Quota(1 << 30))
        self.asked: list[int] = []

    @contextmanager
    def taken(self, count: int, *, waits: bool = True) -> Iterator[None]:
        self.asked.append(count // 14)  # bytes for a pixel
        with super().taken(count, waits=waits):
            yield


async def test_patient_pictures_let_those_of_others_be_decoded_first(engine: Engine) -> None:
    budget, held = _Sizes(), threading.Event()
    decoding = Decoding(1, DecodeLimits(max_bytes=1 << 20, max_pixels=1 << 20, budget=budget))
    classifier = Classifier(
        engine, limits=Limits(instances=engine.instances), decoding=decoding, metrics=WatchedMetrics()
    )
    decoding.threads.submit(lambda: held.wait(60))
    deadline = asyncio.get_running_loop().time() + 60
    with classifier.admit(4) as permits:
        answers = [
            asyncio.create_task(
                classifier.classify(
                    permit, image(RED, size=(side, 1), kind="BMP"), wanted=ONE, deadline=deadline, patient=side < 40
                )
            )
            for side, permit in zip((10, 20, 30, 40), permits, strict=True)
        ]
        await asyncio.sleep(0)
        held.set()
        await asyncio.gather(*answers)
    assert budget.asked == [40, 10, 20, 30]
    decoding.close()


def for_a_thread() -> bytes:
    """A small picture of a kind that is not decoded in its run."""
    return image(RED, kind="BMP")


def costly(side: int) -> bytes:
    """A PNG of one colour: few bytes for as many pixels as are more than a little work."""
    return image(RED, size=(side, 50_000))


@asynccontextmanager
async def one_thread(engine: Engine) -> AsyncIterator[tuple[Classifier, _Sizes, threading.Event]]:
    """A classifier whose one decoding thread is held until the event is set."""
    budget, held = _Sizes(), threading.Event()
    decoding = Decoding(1, DecodeLimits(max_bytes=1 << 20, max_pixels=50_000_000, budget=budget))
    classifier = Classifier(
        engine, limits=Limits(instances=engine.instances), decoding=decoding, metrics=WatchedMetrics()
    )
    decoding.threads.submit(lambda: held.wait(60))
    yield classifier, budget, held
    decoding.close()


async def test_a_picture_of_few_bytes_that_takes_long_lets_others_be_decoded_first(engine: Engine) -> None:
    assert len(costly(41)) <= 100_000
    async with one_thread(engine) as (classifier, budget, held):
        sent = [asyncio.create_task(classify(classifier, one)) for one in (costly(41), costly(42), for_a_thread())]
        await asyncio.sleep(0)
        held.set()
        assert [best(one) for one in await asyncio.gather(*sent)] == ["red"] * 3
    assert budget.asked[0] == 8 * 8
    assert budget.asked[1:] == [41 * 50_000, 42 * 50_000]


async def test_the_large_pictures_of_a_batch_take_turns_with_those_of_others(engine: Engine) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    async with one_thread(engine) as (classifier, budget, held):
        with classifier.admit(5) as permits:
            sent = [
                asyncio.create_task(
                    classifier.classify(
                        permit, costly(side), wanted=ONE, deadline=deadline, patient=True, client=client
                    )
                )
                for side, client, permit in zip(
                    (41, 42, 43, 44, 45), ("many", "many", "many", None, "two"), permits, strict=True
                )
            ]
            await asyncio.sleep(0)
            held.set()
            await asyncio.gather(*sent)
    assert [asked // 50_000 for asked in budget.asked] == [41, 44, 45, 42, 43]


async def test_of_a_batch_nothing_is_begun_after_its_deadline(engine: Engine) -> None:
    async with one_thread(engine) as (classifier, budget, held):
        deadline = asyncio.get_running_loop().time() + 0.05
        with classifier.admit(3) as permits:
            sent = [
                classifier.classify(permit, payload, wanted=ONE, deadline=deadline, client="batch")
                for payload, permit in zip((image(RED), costly(41), costly(42)), permits, strict=True)
            ]
            answers = await asyncio.gather(*sent, return_exceptions=True)
        assert [type(one) for one in answers] == [DeadlinePassed] * 3
        held.set()
        await classify(classifier, image(RED, size=(30, 1)))  # whose turn comes after theirs
        await classify(classifier, costly(44))
    assert budget.asked == [30, 44 * 50_000]


async def test_a_grey_classifier_sees_grey(build: Build, grey_bundle: Any) -> None:
    classifier = build(open_engine(EngineOptions(grey_bundle, provider="cpu", instances=1)))
    assert best(await classify(classifier, image((250, 250, 250)))) == "light"
    assert best(await classify(classifier, image(20, mode="L"))) == "dark"


async def test_the_temperature_of_the_spec_softens_the_probabilities(build: Build) -> None:
    spec = color_spec(canary=None, temperature=10.0)
    classified = await classify(build(engine_of(FakeSession(spec, means_of_colors), spec)), image(RED))
    assert classified.predictions[0]["probability"] == pytest.approx(math.e / (math.e + 2), rel=1e-5)


async def test_huge_logits_do_not_overflow_and_ties_keep_the_order_of_the_classes(build: Build) -> None:
    def answer(patches: Any) -> Any:
        return np.array([[3e38, -3e38, 3e38]] * len(patches), dtype=np.float32)

    classified = await classify(build(engine_of(FakeSession(SPEC, answer), SPEC)), image(RED), top_k=3)
    found = [(one["label"], one["probability"]) for one in classified.predictions]
    assert found == [("red", 0.5), ("blue", 0.5), ("green", 0.0)]


async def test_pictures_that_wait_together_share_a_run_and_each_gets_its_own_answer(build: Build) -> None:
    session = GatedSession(SPEC)
    classifier = build(engine_of(session, SPEC), max_batch_size=8)
    first = asyncio.create_task(classify(classifier, image(RED)))
    await session.entered.wait()
    others = [asyncio.create_task(classify(classifier, image(color))) for color in (GREEN, BLUE, RED)]
    metrics = classifier._metrics
    assert isinstance(metrics, WatchedMetrics)
    await metrics.until(lambda: metrics.waiting == 3)
    session.open_gate()
    answers = await asyncio.gather(first, *others)
    assert [best(classified) for classified in answers] == ["red", "green", "blue", "red"]
    assert [classified.batch_size for classified in answers] == [1, 3, 3, 3]


async def test_pictures_that_share_a_padded_run_get_their_own_answers_and_the_padding_is_counted(
    build: Build, metrics: WatchedMetrics
) -> None:
    instance = Instance(lambda: BatchBucketRunner(FakeGpuSession(SPEC), SPEC, 8, FakeMemory()))
    engine = Engine([instance], SPEC, provider="cuda", precision="fp32", fallback=None)
    classifier = build(engine, max_batch_size=5, max_wait_s=60)
    colors = (RED, GREEN, BLUE, GREEN, RED)
    answers = await asyncio.gather(*(classify(classifier, image(color)) for color in colors))
    assert [best(classified) for classified in answers] == ["red", "green", "blue", "green", "red"]
    assert [classified.batch_size for classified in answers] == [5] * 5
    assert metrics.samples()["mixer_padding_images_total"] == 1


async def test_pictures_that_share_a_run_get_their_own_embeddings(build: Build, engine: Engine) -> None:
    classifier = build(engine, max_batch_size=3, max_wait_s=60)
    answers = await asyncio.gather(*(classify(classifier, image(color)) for color in (RED, GREEN, BLUE)))
    assert [classified.batch_size for classified in answers] == [3] * 3
    for classified, color in zip(answers, (RED, GREEN, BLUE), strict=True):
        assert classified.scores.embedding is not None
        assert (classified.scores.embedding == np.tile(np.float32(color), 16)).all()


async def test_pictures_that_share_a_padded_run_get_their_own_embeddings(build: Build) -> None:
    session = FakeGpuSession(SPEC, embedding=means_of_patches)
    instance = Instance(lambda: BatchBucketRunner(session, SPEC, 8, FakeMemory(), SPEC.patch_bytes))
    engine = Engine([instance], SPEC, provider="cuda", precision="fp32", fallback=None, embedding_dim=48)
    classifier = build(engine, max_batch_size=5, max_wait_s=60)
    colors = (RED, GREEN, BLUE, GREEN, RED)
    answers = await asyncio.gather(*(classify(classifier, image(color)) for color in colors))
    for classified, color in zip(answers, colors, strict=True):
        assert classified.scores.embedding is not None
        assert (classified.scores.embedding == np.tile(np.float32(color), 16)).all()


def test_a_classifier_says_how_many_numbers_an_embedding_has(build: Build, engine: Engine) -> None:
    assert build(engine).expect_embedding() == 48


async def test_a_graph_without_embeddings_classifies_and_says_that_it_has_none(build: Build) -> None:
    classifier = build(engine_of(FakeSession(SPEC, means_of_colors), SPEC))
    classified = await classify(classifier, image(RED))
    assert (best(classified), classified.scores.embedding) == ("red", None)
    message = r"^colours has no output 'embedding'; expected a bundle exported by this version or later\.$"
    with pytest.raises(NoEmbedding, match=message):
        classifier.expect_embedding()


# --- what fails ---


async def test_what_cannot_be_decoded_never_reaches_the_engine(build: Build, metrics: WatchedMetrics) -> None:
    session = FakeSession(SPEC)
    classifier = build(engine_of(session, SPEC))
    with pytest.raises(BadImage):
        await classify(classifier, b"no picture")
    with pytest.raises(TooManyPixels):
        await classify(classifier, image(RED, size=(2000, 2000)))
    assert session.batches == []
    assert metrics.samples()['mixer_images_total{outcome="bad_picture"}'] == 1
    assert metrics.samples()['mixer_images_total{outcome="too_many_pixels"}'] == 1
    assert metrics.inside == 0


async def test_the_engines_own_words_stay_in_the_log(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    def answer(patches: Any) -> Any:
        raise RuntimeError("secret")

    with pytest.raises(InferenceFailed) as failed:
        await classify(build(engine_of(FakeSession(SPEC, answer), SPEC)), image(RED))
    assert str(failed.value) == "The engine failed on this picture; the service's log says why."
    assert "secret" in caplog.text


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
async def test_logits_that_are_no_numbers_are_a_failure(wrong: float, build: Build) -> None:
    def answer(patches: Any) -> Any:
        return np.array([[0, wrong, 0]], dtype=np.float32)

    with pytest.raises(InferenceFailed, match=r"not all finite numbers\. This is a bug"):
        await classify(build(engine_of(FakeSession(SPEC, answer), SPEC)), image(RED))


async def test_a_picture_whose_turn_to_be_decoded_comes_too_late(build: Build, metrics: WatchedMetrics) -> None:
    classifier, gate = build(engine_of(FakeSession(SPEC), SPEC)), threading.Event()
    before = classifier.decoding.threads.submit(lambda: gate.wait(60))
    with pytest.raises(DeadlinePassed, match="not decoded before its deadline"):
        await classify(classifier, for_a_thread(), timeout_s=-1)
    gate.set()
    await before
    assert metrics.given_up == [("decode", "deadline")]
    assert metrics.samples()['mixer_images_total{outcome="deadline_passed"}'] == 1


async def test_a_picture_whose_client_goes_while_it_is_decoded(build: Build, metrics: WatchedMetrics) -> None:
    session = FakeSession(SPEC)
    classifier = build(engine_of(session, SPEC))
    task = asyncio.create_task(classify(classifier, for_a_thread()))
    await metrics.until(lambda: metrics.inside == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert metrics.given_up == [("decode", "client_gone")]
    assert metrics.samples()['mixer_images_total{outcome="client_gone"}'] == 1
    assert (metrics.inside, session.batches) == (0, [])


# --- places and labels ---


async def test_places_for_many_are_given_to_all_or_none(build: Build, engine: Engine, metrics: WatchedMetrics) -> None:
    classifier = build(engine, queue_capacity=3)
    with classifier.admit(2) as permits:
        assert len(permits) == 2
        with pytest.raises(QueueFull), classifier.admit(2):
            pytest.fail("There was room for one only.")
        assert metrics.inside == 2
        assert metrics.samples()['mixer_images_total{outcome="queue_full"}'] == 2
    assert metrics.inside == 0
    with classifier.admit(3):
        assert metrics.inside == 3


async def test_a_refused_batch_is_counted_by_its_pictures_and_told_the_true_depth(
    build: Build, engine: Engine, metrics: WatchedMetrics
) -> None:
    classifier = build(engine, queue_capacity=4)
    with classifier.admit(2):
        with (
            pytest.raises(QueueFull, match=r"^2 of 4 places in the queue are taken; expected room for 3\."),
            classifier.admit(3),
        ):
            pytest.fail("There was room for two only.")
        assert metrics.samples()['mixer_rejected_total{reason="queue_full"}'] == 3


async def test_while_draining_there_are_no_places(build: Build, engine: Engine, metrics: WatchedMetrics) -> None:
    classifier = build(engine)
    await classifier.batcher.close(0)
    with pytest.raises(NotReady), classifier.admit():
        pytest.fail("It was draining.")
    assert metrics.samples()['mixer_images_total{outcome="not_ready"}'] == 1
