"""Every metric of the service, by the name that dashboards know, with the value it should have."""

import asyncio
import re
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.lifespan import heartbeat
from app.system.worker_context import WorkerContext
from tests.app.asgi import AsgiCall
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image
from tests.app.fakes import GatedSession, WatchedMetrics, engine_of, samples_of
from tests.app.in_process import Serve

NAMES = {
    "mixer_requests": {"endpoint", "status"},
    "mixer_errors": {"endpoint", "code"},
    "mixer_request_seconds": {"endpoint"},
    "mixer_images": {"outcome"},
    "mixer_stage_seconds": {"stage"},
    "mixer_batch_size": set(),
    "mixer_classified_requests": set(),
    "mixer_classified_request_seconds": {"stage"},
    "mixer_last_run_timestamp_seconds": set(),
    "mixer_padding_images": set(),
    "mixer_queue_depth": set(),
    "mixer_in_flight": set(),
    "mixer_rejected": {"reason"},
    "mixer_dropped": {"stage", "reason"},
    "mixer_top1_probability": set(),
    "mixer_predictions": {"label"},
    "mixer_uncertain": set(),
    "mixer_explanation_rows": set(),
    "mixer_engine_info": {"provider", "precision", "model", "version"},
    "mixer_connections": set(),
    "mixer_worker_restarts": set(),
    "mixer_workers_down": set(),
    "mixer_decode_overruns": set(),
    "mixer_event_loop_lag_seconds": set(),
    "mixer_ready": set(),
    "mixer_canary_seconds": set(),
    "mixer_canary_last_success_timestamp_seconds": set(),
    "mixer_canary_failures": {"reason"},
    "mixer_reloads": {"outcome"},
    "mixer_limit": {"of"},
}
NOT_YET = {  # after the traffic below, with one model and without keys, reloads or failures
    "mixer_key_requests": {"key"},
    "mixer_explanations": {"method", "outcome"},
    "mixer_collected": {"outcome"},
    "mixer_feedback": {"model", "outcome"},
    "mixer_drift_psi": {"model", "of"},
    "mixer_model_images": {"model", "outcome"},
    "mixer_model_predictions": {"model", "label"},
    "mixer_model_uncertain": {"model"},
    "mixer_model_classified_request_seconds": {"model", "stage"},
    "mixer_model_runs": {"model"},
    "mixer_model_classified_requests": {"model"},
    "mixer_model_last_run_timestamp_seconds": {"model"},
    "mixer_shadow_images": {"model", "shadow", "outcome"},
    "mixer_shadow_disagreements": {"model", "shadow", "label", "shadow_label"},
    "mixer_shadow_probability_difference": {"model", "shadow"},
    "mixer_shadow_uncertain": {"model", "shadow", "uncertain"},
    "mixer_shadow_infer_seconds": {"model", "shadow", "role"},
    "mixer_shadow_info": {"provider", "precision", "model", "version"},
    "mixer_shadow_answering": {"shadow"},
    "mixer_shadow_stops": {"shadow", "reason"},
}


async def test_after_some_traffic_every_metric_has_its_value(serve: Serve) -> None:
    """A red picture is in the engine, a green one waits and is given up, a blue one is refused, a broken one fails."""
    spec = color_spec(canary=None)
    session = GatedSession(spec)
    options = {"queue_capacity": 2, "max_images_per_request": 2, "max_batch_size": 4}
    async with serve(engine_of(session, spec), **options) as service:
        red = asyncio.create_task(service.http.post("/classify", content=image(RED)))
        await session.entered.wait()
        green = AsgiCall("/classify", {"content-type": "image/png"})
        green.send_body(image(GREEN))
        waiting = asyncio.create_task(green.go(service.app))
        await service.metrics.until(lambda: service.metrics.waiting == 1)
        during = service.metrics.samples()
        assert (await service.http.post("/classify", content=image(BLUE))).status_code == 429
        green.hang_up()
        await waiting
        session.open_gate()
        assert (await red).status_code == 200
        files = [("file", ("a", image(RED))), ("file", ("b", image(BLUE)))]
        assert (await service.http.post("/classify/batch", files=files)).status_code == 200
        assert (await service.http.post("/classify", content=b"no picture")).status_code == 400
        answer = await service.http.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    for name, labels in NAMES.items():
        samples = [sample for sample in families[name].samples if not sample.name.endswith("_created")]
        assert samples
        assert all(set(sample.labels) - {"le"} == labels for sample in samples)
        assert families[name].documentation.endswith(".")
    for name in NOT_YET:
        assert families[name].samples == []
        assert families[name].documentation.endswith(".")
    assert (during["mixer_queue_depth"], during["mixer_in_flight"]) == (1, 2)

    samples = samples_of(answer.text)
    samples.pop("mixer_event_loop_lag_seconds_count")  # one each half second
    assert {name: value for name, value in samples.items() if _is_a_count(name)} == {
        'mixer_requests_total{endpoint="/classify",status="200"}': 1,
        'mixer_requests_total{endpoint="/classify",status="400"}': 1,
        'mixer_requests_total{endpoint="/classify",status="429"}': 1,
        'mixer_requests_total{endpoint="/classify",status="499"}': 1,
        'mixer_requests_total{endpoint="/classify/batch",status="200"}': 1,
        'mixer_errors_total{code="bad_picture",endpoint="/classify"}': 1,
        'mixer_errors_total{code="client_gone",endpoint="/classify"}': 1,
        'mixer_errors_total{code="queue_full",endpoint="/classify"}': 1,
        'mixer_request_seconds_count{endpoint="/classify"}': 4,
        'mixer_request_seconds_count{endpoint="/classify/batch"}': 1,
        'mixer_images_total{outcome="classified"}': 3,
        "mixer_classified_requests_total": 2,
        'mixer_images_total{outcome="client_gone"}': 1,
        'mixer_images_total{outcome="queue_full"}': 1,
        'mixer_images_total{outcome="bad_picture"}': 1,
        'mixer_stage_seconds_count{stage="receive"}': 4,  # what is refused is not read
        'mixer_stage_seconds_count{stage="decode"}': 3,
        'mixer_stage_seconds_count{stage="queue"}': 3,
        'mixer_stage_seconds_count{stage="infer"}': 3,
        'mixer_stage_seconds_count{stage="respond"}': 3,
        "mixer_batch_size_count": sum(1 for batch in session.batches),
        "mixer_batch_size_sum": 3,
        "mixer_padding_images_total": 0,
        "mixer_queue_depth": 0,
        "mixer_in_flight": 0,
        "mixer_connections": 0,  # nobody listens here
        "mixer_worker_restarts_total": 0,
        "mixer_workers_down": 0,
        "mixer_decode_overruns_total": 0,
        "mixer_ready": 1,
        'mixer_rejected_total{reason="queue_full"}': 1,
        'mixer_rejected_total{reason="uploads_full"}': 0,
        'mixer_rejected_total{reason="draining"}': 0,
        'mixer_reloads_total{outcome="refused"}': 0,
        'mixer_limit{of="images"}': 2,
        'mixer_limit{of="background"}': 1,
        'mixer_limit{of="upload_bytes"}': 128 << 20,
        'mixer_limit{of="decode_bytes"}': 350_000_000,
        'mixer_limit{of="connections"}': 2048,
        'mixer_dropped_total{reason="client_gone",stage="queue"}': 1,
        "mixer_top1_probability_count": 3,
        'mixer_predictions_total{label="red"}': 2,
        'mixer_predictions_total{label="blue"}': 1,
        "mixer_uncertain_total": 0,
        "mixer_explanation_rows_total": 0,
        'mixer_engine_info{model="colours",precision="fp32",provider="cpu",version="7"}': 1,
    }


def _is_a_count(name: str) -> bool:
    return not re.search(
        r"_bucket|_created|_seconds_sum|probability_sum|_canary_|_last_run_|request_seconds_total|_worker_(?!restarts)",
        name,
    )


async def test_nothing_is_counted_before_it_happens(serve: Serve) -> None:
    async with serve() as service:
        samples = service.metrics.samples()
        assert not any(name.startswith("mixer_dropped_total") for name in samples)
        assert not any(value for name, value in samples.items() if name.startswith("mixer_rejected_total"))


@pytest.mark.parametrize(
    ("counter", "values"),
    [
        ("mixer_rejected_total", {"queue_full", "uploads_full", "draining"}),
        ("mixer_reloads_total", {"refused"}),
        (
            "mixer_canary_failures_total",
            {"wrong_answer", "deadline_passed", "inference_failed", "provider", "stuck_run", "check_failed"},
        ),
    ],
)
def test_what_alerts_watch_grow_begins_at_zero(counter: str, values: set[str]) -> None:
    samples = WatchedMetrics().samples()
    found = {re.sub(r'.*"(.*)".*', r"\1", name): value for name, value in samples.items() if name.startswith(counter)}
    assert found == dict.fromkeys(values, 0)


def test_the_list_of_names_is_complete() -> None:
    folder = Path(__file__).resolve().parents[3] / "app" / "telemetry"
    source = "".join((folder / name).read_text(encoding="utf-8") for name in ("metrics.py", "shadow_metrics.py"))
    assert set(re.findall(r'"(mixer_\w+)"', source)) == set(NAMES) | set(NOT_YET)


async def test_how_late_the_event_loop_is_is_measured_each_half_second() -> None:
    metrics = WatchedMetrics()
    name = "mixer_event_loop_lag_seconds"
    beating = asyncio.create_task(heartbeat(WorkerContext(), metrics))
    asyncio.get_running_loop().call_later(0.1, time.sleep, 0.7)  # what a client must not be able to do
    await asyncio.wait([beating], timeout=0.9)
    beating.cancel()
    assert metrics.samples()[f"{name}_sum"] >= 0.29
