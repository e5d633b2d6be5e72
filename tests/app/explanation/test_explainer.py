"""One picture explained, from its bytes to a number for each patch. The model's logits are the mean of each color."""

import asyncio
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.decoding.decoder import DecodeLimits
from app.engine.engine import Engine
from app.errors import BadImage, DeadlinePassed, InferenceFailed, NotReady, QueueFull
from app.explanation.explainer import Explainer, Explanation
from app.explanation.wanted import wanted_of
from app.inference.admission import Limits
from app.inference.classifier import Classifier
from app.inference.undecoded import Decoding
from model.preprocess import Pixels
from model.spec import Fit
from model.tilt import packed
from tests.app.color_bundle import RED, color_spec, image
from tests.app.fakes import FakeSession, GatedSession, WatchedMetrics, engine_of, means_of_colors

SPEC = color_spec(canary=None)
PICTURE = np.zeros((8, 8, 3), dtype=np.uint8)
PICTURE[:4, :4] = (240, 0, 0)
PICTURE[4:, 4:] = (120, 0, 0)
PICTURE[:4, 4:] = (0, 0, 80)
Build = Callable[..., Explainer]


@pytest.fixture
def build() -> Iterator[Build]:
    decoding = Decoding(1, DecodeLimits(max_bytes=1 << 20, max_pixels=1 << 25))

    def explainer(engine: Engine, **limits: Any) -> Explainer:
        limits_of_it = Limits(**{"instances": engine.instances, "max_batch_size": 8, **limits})
        return Explainer(Classifier(engine, limits=limits_of_it, decoding=decoding, metrics=WatchedMetrics()))

    yield explainer
    decoding.close()


def file_of(pixels: Pixels, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


async def explain(explainer: Explainer, picture: Any = PICTURE, *, timeout_s: float = 60, **asked: str) -> Explanation:
    deadline = asyncio.get_running_loop().time() + timeout_s
    return await explainer.explain(picture, wanted_of(explainer.spec, asked), deadline)


async def test_a_patch_carries_what_the_logit_loses_without_it(build: Build) -> None:
    explanation = await explain(build(engine_of(FakeSession(SPEC, means_of_colors), SPEC)))
    assert (explanation.target["label"], explanation.target["index"], explanation.runs) == ("red", 0, 5)
    reds = PICTURE[::4, ::4, 0].astype(float)  # of each patch
    lost = (reds - reds.mean()) / 4 * 10 / 255  # a patch is a quarter of the mean, and hidden has the mean color
    assert explanation.values == pytest.approx(lost, abs=1e-3)
    assert set(explanation.seconds) == {"decode", "queue", "infer"}


@pytest.mark.parametrize("target", ["blue", "2"])
async def test_another_label_may_be_explained(build: Build, target: str) -> None:
    explanation = await explain(build(engine_of(FakeSession(SPEC, means_of_colors), SPEC)), target=target)
    assert explanation.target["label"] == "blue"
    assert explanation.target["probability"] < 0.5
    assert explanation.values.argmax() == 1
    assert explanation.values[0, 0] < 0


async def test_rise_finds_the_same_patch(build: Build) -> None:
    explanation = await explain(build(engine_of(FakeSession(SPEC, means_of_colors), SPEC)), method="rise")
    assert explanation.runs == 129
    assert explanation.values.argmax() == 0
    assert explanation.values[0, 0] > 0.05


async def test_the_baseline_is_the_one_asked_for(build: Build) -> None:
    explainer = build(engine_of(FakeSession(SPEC, means_of_colors), SPEC))
    explanation = await explain(explainer, baseline="border")
    reds = PICTURE[::4, ::4, 0].astype(float)
    assert explanation.values == pytest.approx((reds - 60) / 4 * 10 / 255, abs=1e-3)  # half of the edge is 0, half more


@pytest.mark.parametrize(
    ("fit", "size", "region"),
    [
        (Fit(mode="stretch"), (60, 30), (0, 0, 60, 30, 60, 30)),
        (Fit(mode="crop"), (60, 30), (15, 0, 45, 30, 60, 30)),
        (Fit(mode="crop", crop_percentage=0.5), (60, 40), (20, 10, 40, 30, 60, 40)),
        (Fit(mode="pad"), (60, 30), (0, -15, 60, 45, 60, 30)),
    ],
)
async def test_the_region_is_what_the_model_saw_of_the_upload(
    build: Build, fit: Fit, size: tuple[int, int], region: tuple[float, ...]
) -> None:
    spec = color_spec(canary=None, fit=fit)
    explainer = build(engine_of(FakeSession(spec, means_of_colors), spec))
    assert tuple((await explain(explainer, image(RED, size=size))).region) == (*region, 0)


async def test_the_region_is_in_pixels_of_the_upload_though_it_was_decoded_at_a_fraction_and_turned(
    build: Build,
) -> None:
    spec = color_spec(canary=None, fit=Fit(mode="crop"))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    payload = image(RED, size=(1600, 800), kind="JPEG", exif=exif)
    explanation = await explain(build(engine_of(FakeSession(spec, means_of_colors), spec)), payload)
    assert tuple(explanation.region) == (0, 400, 800, 1200, 800, 1600, 0)


async def test_the_region_of_a_thing_that_is_turned_says_by_how_much(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.tilt.degrees_of", lambda squares, _: np.full(len(squares), 20, np.float32))
    tilt = packed(((np.zeros((4, 1), np.float32), np.zeros(1, np.float32)),), beyond=5)
    fit = Fit(mode="pad", background="black", frame="thing", tilt=tilt)
    spec = color_spec(canary=None, fit=fit)
    thing = Image.new("RGB", (200, 300))
    thing.paste((200, 200, 200), (40, 100, 100, 220))
    file = io.BytesIO()
    thing.rotate(20, Image.Resampling.BICUBIC).save(file, "PNG")
    region = (await explain(build(engine_of(FakeSession(spec, means_of_colors), spec)), file.getvalue())).region
    assert region.turned == 20
    pixel = 350 / spec.image_size  # of the square that all of the picture fits in when it is turned back
    assert ((region.left + region.right) / 2, (region.top + region.bottom) / 2) == pytest.approx((70, 160), abs=pixel)
    assert region.bottom - region.top == pytest.approx(120, abs=2 * pixel)


@pytest.mark.parametrize("turned", [False, True])
async def test_a_picture_that_is_nearly_square_is_not_turned(build: Build, turned: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    payload = image(RED, size=(1000, 999), kind="JPEG", exif=exif)  # decoded as 125 x 125
    region = (await explain(build(engine_of(FakeSession(SPEC, means_of_colors), SPEC)), payload)).region
    assert (region.width, region.height) == ((999, 1000) if turned else (1000, 999))


async def test_the_shown_picture_is_in_color_upright_and_of_about_the_size_of_an_overlay(build: Build) -> None:
    spec = color_spec(1, canary=None)
    explainer = build(engine_of(FakeSession(spec, lambda patches: np.zeros((len(patches), 2), np.float32)), spec))
    deadline = asyncio.get_running_loop().time() + 60
    shown = await explainer.shown(image(RED, size=(6400, 3200), kind="JPEG"), deadline)
    assert shown.shape == (800, 1600, 3)
    assert (await explainer.shown(PICTURE, deadline)).shape == (8, 8, 3)


async def test_it_is_refused_before_any_work_where_the_queue_is_full(build: Build) -> None:
    explainer = build(engine_of(FakeSession(SPEC, means_of_colors), SPEC), queue_capacity=4)
    permits = explainer._classifier.admit(4)
    with permits, pytest.raises(QueueFull):
        await explain(explainer, b"no picture, which nobody finds out")
    with pytest.raises(BadImage):
        await explain(explainer, b"no picture")
    assert explainer._classifier.batcher.admission.inside == 0


async def test_one_that_is_late_says_how_far_it_came(build: Build) -> None:
    session = GatedSession(SPEC)
    explainer = build(engine_of(session, SPEC))
    with pytest.raises(DeadlinePassed, match="0 of the 5 runs of this explanation were done by its deadline"):
        await explain(explainer, timeout_s=0.3)
    session.open_gate()
    assert explainer._classifier.batcher.admission.inside == 0


async def test_an_engine_that_fails_is_told_as_for_any_picture(build: Build) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("the session is gone")

    explainer = build(engine_of(FakeSession(SPEC, broken), SPEC))
    with pytest.raises(InferenceFailed, match="the service's log says why"):
        await explain(explainer)
    assert explainer._classifier.batcher.admission.inside == 0


async def test_whoever_leaves_stops_it(build: Build) -> None:
    session = GatedSession(SPEC)
    explainer = build(engine_of(session, SPEC))
    task = asyncio.create_task(explain(explainer))
    await session.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert explainer._classifier.batcher.admission.inside == 0
    session.open_gate()


async def test_logits_that_are_no_numbers_are_a_failure_of_the_model(build: Build) -> None:
    session = FakeSession(SPEC, lambda patches: np.full((len(patches), 3), np.nan, dtype=np.float32))
    with pytest.raises(InferenceFailed, match="not all finite"):
        await explain(build(engine_of(session, SPEC)))


async def test_while_draining_none_begins(build: Build) -> None:
    explainer = build(engine_of(FakeSession(SPEC, means_of_colors), SPEC))
    await explainer._classifier.batcher.close(1)
    with pytest.raises(NotReady):
        await explain(explainer)
