"""A stored picture through the real path of one classifier, and the reason where it fails."""

import base64
from typing import Any

import numpy as np
import pytest

from app.errors import QueueFull
from app.inference.classifier import Classifier
from app.serving.canary import HealthFailure, failure_of
from model.spec import Canary
from tests.app.color_bundle import RED, color_spec, image
from tests.app.fakes import FakeSession, GatedSession, engine_of, means_of_colors
from tests.app.served_models import shop_of

SPEC = color_spec()
STORED = image(RED)


def canary_of(payload: bytes) -> Canary:
    return Canary(picture=base64.b64encode(payload).decode(), logits=(10.0, 0.0, 0.0), atol=1e-3)


async def failure(classifier: Classifier, timeout_s: float = 60, lost: str | None = None) -> HealthFailure | None:
    return await failure_of(classifier, timeout_s=timeout_s, lost_provider=lambda: lost)


async def test_the_stored_answer_is_no_reason_to_complain() -> None:
    session = FakeSession(SPEC, means_of_colors)
    with shop_of(engine_of(session, SPEC)) as shop:
        assert await failure(shop.models.classifier()) is None
        assert len(session.batches) == 1


async def test_without_a_canary_nothing_is_run() -> None:
    spec = color_spec(canary=None)
    session = FakeSession(spec)
    with shop_of(engine_of(session, spec)) as shop:
        assert await failure(shop.models.classifier()) is None
        assert session.batches == []


async def test_another_answer_is_wrong() -> None:
    session = FakeSession(SPEC, lambda patches: means_of_colors(patches) + np.float32(0.5))
    with shop_of(engine_of(session, SPEC)) as shop:
        words = "The canary picture's logits are off by 0.5; expected at most 0.001."
        assert await failure(shop.models.classifier()) == HealthFailure("wrong_answer", words)


async def test_an_engine_that_fails_and_logits_that_are_no_numbers_are_a_failed_inference() -> None:
    def broken(patches: Any) -> Any:
        raise RuntimeError("device lost")

    for answer in (broken, lambda patches: means_of_colors(patches) * np.float32(np.nan)):
        with shop_of(engine_of(FakeSession(SPEC, answer), SPEC)) as shop:
            found = await failure(shop.models.classifier())
            assert found is not None
            assert found.reason == "inference_failed"
            assert found.words.startswith("The canary picture was not classified: The ")


async def test_a_instance_that_stalls_passes_the_deadline() -> None:
    session = GatedSession(SPEC)
    with shop_of(engine_of(session, SPEC)) as shop:
        found = await failure(shop.models.classifier(), timeout_s=0.05)
        assert found is not None
        assert found.reason == "deadline_passed"
        session.open_gate()


@pytest.mark.parametrize("payload", [b"no picture", b""])
async def test_a_canary_that_is_no_picture_is_not_classified(payload: bytes) -> None:
    spec = color_spec(canary=canary_of(payload))
    with shop_of(engine_of(FakeSession(spec, means_of_colors), spec)) as shop:
        found = await failure(shop.models.classifier())
        assert found is not None
        assert found.reason == "bad_picture"


async def test_a_lost_provider_is_a_reason_before_anything_is_run() -> None:
    session = FakeSession(SPEC, means_of_colors)
    with shop_of(engine_of(session, SPEC)) as shop:
        assert await failure(shop.models.classifier(), lost="It is gone.") == HealthFailure("provider", "It is gone.")
        assert session.batches == []


async def test_a_full_queue_proves_nothing() -> None:
    with shop_of(engine_of(FakeSession(SPEC, means_of_colors), SPEC), queue_capacity=1) as shop:
        with shop.models.classifier().admit(), pytest.raises(QueueFull):
            await failure(shop.models.classifier())
        assert await failure(shop.models.classifier()) is None


async def test_a_check_that_breaks_is_a_reason_too(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> str | None:
        raise ZeroDivisionError

    with shop_of(engine_of(FakeSession(SPEC, means_of_colors), SPEC)) as shop:
        found = await failure_of(shop.models.classifier(), timeout_s=60, lost_provider=broken)
        words = "The canary check itself failed; the service's log says why."
        assert found == HealthFailure("check_failed", words)
    assert "ZeroDivisionError" in caplog.text
