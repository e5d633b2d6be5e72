"""Real graphs that go wrong in ONNX Runtime: on some pictures, on all from some moment on, or without end."""

import base64
import json
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.spec import Canary, ModelSpec
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image
from tests.app.fakes import samples_of
from tests.app.servers import SERVING, STARTED, Server, connected_to_all, owners, until
from tests.faults.failing import (
    ENDLESS,
    HUNGRY,
    INFINITE,
    NOT_A_NUMBER,
    RAISES,
    break_for_all,
    mend_for_all,
    write_failing_bundle,
)
from tests.faults.wire import Answer, Reader, ask, batch, metric, pid_of, post, served, usage
from tests.pace import is_within, slowness_at_first

pytestmark = pytest.mark.process

FAULTS = [RAISES, NOT_A_NUMBER, INFINITE, HUNGRY]
NAMES = ["raises", "NaN", "infinite", "out of memory"]
PLAIN = ((RED, "red"), (GREEN, "green"), (BLUE, "blue"))
READY = b"GET /health/ready HTTP/1.1\r\nHost: service\r\n\r\n"
TOGETHER = 4

Color = tuple[int, int, int]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_failing_bundle(tmp_path_factory.mktemp("failing"))


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that runs four pictures at a time, and waits for as many: it has no canary, which would come alone."""
    bundle = write_failing_bundle(tmp_path_factory.mktemp("company"), color_spec(canary=None))
    limits = ("--max-batch-size", str(TOGETHER), "--max-wait-ms", "10000")
    with served(bundle, "--workers", "1", "--instances", "1", *limits) as running:
        running.wait_until_serving()
        yield running


def ill_spec(color: Color, *logits: float) -> ModelSpec:
    """One whose canary is of this colour, and has this answer."""
    canary = Canary(picture=base64.b64encode(image(color)).decode(), logits=logits, atol=1e-3)
    return color_spec(canary=canary)


def strict(text: bytes) -> Any:
    """JSON without NaN and Infinity, which Python would read."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} in {text!r}")

    return json.loads(text, parse_constant=refuse)


def expect_failed(answer: Answer) -> None:
    assert (answer.status, answer.code) == (500, "inference_failed")
    assert strict(answer.body)["detail"]


def expect_answers(server: Server) -> None:
    """Ready, and right about all others."""
    assert ask(server, READY).status == 200
    assert [ask(server, post(image(color))).label for color, _ in PLAIN] == [label for _, label in PLAIN]


def expect_sound_metrics(server: Server) -> None:
    assert all(math.isfinite(value) for value in samples_of(server.get("/metrics")).values())


def until_busy(*pids: int) -> None:
    """Until an endless run has begun: nothing else takes so much of a processor."""
    before = sum(usage(pid).cpu_s for pid in pids)
    until(lambda: sum(usage(pid).cpu_s for pid in pids) > before + 0.2)


# --- on some pictures ---


@pytest.mark.parametrize("color", FAULTS, ids=NAMES)
def test_a_picture_on_which_the_engine_fails_gets_500_however_often_it_comes(service: Server, color: Color) -> None:
    expect_failed(ask(service, post(image(color))))
    expect_answers(service)
    lost = metric(service, 'mixer_images_total{outcome="inference_failed"}')
    held = usage(pid_of(service)).held
    with service.connect() as connection:
        reader = Reader(connection)
        for _ in range(100):
            connection.sendall(post(image(color)))
            expect_failed(reader.answer())
    assert metric(service, 'mixer_images_total{outcome="inference_failed"}') == lost + 100
    assert usage(pid_of(service)).held < held + 20
    expect_answers(service)
    expect_sound_metrics(service)


@pytest.mark.parametrize("color", FAULTS, ids=NAMES)
def test_other_clients_whose_pictures_share_its_run_get_their_answers(company: Server, color: Color) -> None:
    before = [metric(company, f"mixer_batch_size_{name}") for name in ("count", "sum")]
    connections = [company.connect() for _ in range(TOGETHER)]
    for connection, wanted in zip(connections, (RED, color, GREEN, BLUE), strict=True):
        connection.sendall(post(image(wanted)))
    red, failed, green, blue = [Reader(connection).answer() for connection in connections]
    for connection in connections:
        connection.close()
    expect_failed(failed)
    assert (red.label, green.label, blue.label) == ("red", "green", "blue")
    count, total = [metric(company, f"mixer_batch_size_{name}") for name in ("count", "sum")]
    runs = (1, TOGETHER) if color in (NOT_A_NUMBER, INFINITE) else (2, 3)  # halved until the culprit was alone
    assert (count - before[0], total - before[1]) == runs
    expect_sound_metrics(company)


@pytest.mark.parametrize("color", FAULTS, ids=NAMES)
def test_in_a_batch_it_spoils_only_its_own_place(company: Server, color: Color) -> None:
    answer = ask(company, batch(image(BLUE), image(color), image(RED), image(GREEN)))
    assert answer.status == 200
    blue, failed, red, green = strict(answer.body)["results"]
    assert [one["predictions"][0]["label"] for one in (blue, red, green)] == ["blue", "red", "green"]
    assert failed["error"]["code"] == "inference_failed"


# --- on all ---


def test_when_every_run_fails_it_is_not_ready_and_when_they_succeed_again_it_is(tmp_path: Path) -> None:
    bundle = write_failing_bundle(tmp_path)
    with served(bundle, "--workers", "1", "--instances", "1", "--canary-interval-s", "0.2") as running:
        running.wait_until_serving()
        expect_answers(running)
        break_for_all(bundle)
        running.wait_for("readiness: The canary picture was not classified: The engine failed on this picture")
        answer = ask(running, READY)
        assert (answer.status, answer.code) == (503, "not_ready")
        assert "The canary picture was not classified" in strict(answer.body)["detail"]
        expect_failed(ask(running, post(image(RED))))
        assert metric(running, 'mixer_canary_failures_total{reason="inference_failed"}') >= 1
        mend_for_all(bundle)
        running.wait_for("readiness: ready", 2)
        expect_answers(running)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ill_spec(RED, 0.0, 10.0, 0.0), "The canary picture's logits are off by 10; expected at most 0.001"),
        (ill_spec(RAISES, 10.0, 0.0, 0.0), "The canary picture was not classified: The engine failed on this picture"),
        (ill_spec(NOT_A_NUMBER, 10.0, 0.0, 0.0), "The canary picture was not classified: The logits of this picture"),
    ],
    ids=["answered wrongly", "raises", "NaN"],
)
def test_a_bundle_whose_canary_is_ill_is_not_ready_until_a_sound_one_is_loaded(
    spec: ModelSpec, words: str, tmp_path: Path
) -> None:
    bundle = write_failing_bundle(tmp_path / "served", spec)
    with served(bundle, "--workers", "1", "--instances", "1") as running:
        running.wait_for(f"readiness: {words}")
        running.wait_until_serving()
        answer = ask(running, READY)
        assert answer.status == 503
        assert words in strict(answer.body)["detail"]
        running.signal(signal.SIGHUP)
        running.wait_for(f"reload: served refused: {words}")
        (write_failing_bundle(tmp_path / "sound") / "fp32.onnx").replace(bundle / "fp32.onnx")
        running.signal(signal.SIGHUP)
        running.wait_for("reload: served swapped")
        running.wait_for("readiness: ready")
        expect_answers(running)


# --- without end ---


# Canaries get stuck behind the run, too.
WATCHED = ("--instances", "1", "--watchdog-s", f"{2 * slowness_at_first()}", "--canary-interval-s", "0.2")


def test_of_two_workers_one_in_an_endless_run_is_replaced_and_the_other_serves(bundle: Path) -> None:
    with served(bundle, "--workers", "2", *WATCHED) as running:
        running.wait_until_serving(workers=2)
        pids = [int(pid) for pid in running.wait_for(STARTED, 2)]
        connections = connected_to_all(running.port, pids, 8)
        for connection in connections:
            connection.sendall(post(image(RED)))
            assert Reader(connection).answer().label == "red"
        holders = owners(connections, pids)
        stuck = connections[0]
        other = next(one for one, holder in zip(connections, holders, strict=True) if holder != holders[0])
        answers = Reader(other)

        stuck.sendall(post(image(ENDLESS)))
        running.wait_for(r"readiness: A run has not ended in \d")
        other.sendall(post(image(GREEN)) + READY)
        assert answers.answer().label == "green"
        assert "A run has not ended" in strict(answers.answer().body)["detail"]
        running.wait_for(r"a run has not ended in [\d.]+ s; this process ends")
        assert Reader(stuck).answer().status == 0
        running.wait_for(rf"worker \d \(process {holders[0]}\) ended with exit code 1, and is replaced")
        running.wait_for(SERVING, 3)
        other.sendall(post(image(BLUE)) + READY)
        assert answers.answer().label == "blue"
        assert answers.answer().status == 200
        for connection in connections:
            connection.close()


def test_a_service_of_one_process_ends_with_an_error_after_an_endless_run(bundle: Path) -> None:
    """Whoever watches over it starts another: `restart: unless-stopped` of docker compose does."""
    with served(bundle, "--workers", "1", *WATCHED) as running:
        running.wait_until_serving()
        with running.connect() as connection:
            connection.sendall(post(image(ENDLESS)))
            running.wait_for(r"readiness: A run has not ended in \d")
            assert ask(running, READY).status == 503
            running.wait_for(r"a run has not ended in [\d.]+ s; this process ends")
            assert running.exit_code() == 1
            assert Reader(connection).answer().status == 0


def test_whose_picture_runs_without_end_gets_504_and_so_does_who_waits_behind_it(bundle: Path) -> None:
    deadlines = ("--request-timeout-s", "0.5", "--canary-interval-s", "0.2", "--drain-timeout-s", "0.2")
    with served(bundle, "--instances", "1", "--workers", "1", *deadlines) as running:
        running.wait_until_serving()
        for color in (ENDLESS, RED, RED):
            answer = ask(running, post(image(color)))
            assert (answer.status, answer.code) == (504, "deadline_passed")
        running.wait_for("readiness: The canary picture was not classified: The picture was not classified before")
        assert ask(running, READY).status == 503
        assert metric(running, 'mixer_dropped_total{reason="deadline",stage="infer"}') >= 1
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert not [line for line in running.lines if "terminate called" in line]


def test_while_one_instance_is_in_an_endless_run_the_other_serves(bundle: Path) -> None:
    with served(bundle, "--instances", "2", "--workers", "1", "--request-timeout-s", "2") as running:
        running.wait_until_serving()
        with running.connect() as connection:
            connection.sendall(post(image(ENDLESS)))
            until_busy(pid_of(running))
            for color, label in PLAIN:
                assert ask(running, post(image(color))).label == label
            assert Reader(connection).answer().status == 504


@pytest.mark.parametrize("workers", [1, 2])
def test_an_endless_run_does_not_keep_a_service_that_is_told_to_stop(workers: int, bundle: Path) -> None:
    with served(bundle, "--instances", "1", "--workers", str(workers), "--drain-timeout-s", "0.2") as running:
        running.wait_until_serving(workers)
        with running.connect() as connection:
            connection.sendall(post(image(ENDLESS)))
            until_busy(*(int(pid) for pid in running.wait_for(STARTED, workers)))
            told = time.monotonic()
            running.signal(signal.SIGTERM)
            answer = Reader(connection).answer()
            assert (answer.status, answer.code) == (503, "not_ready")
            assert running.exit_code() == 0
            assert is_within(time.monotonic() - told, 10, time.perf_counter)
        assert not [line for line in running.lines if "terminate called" in line or "Traceback" in line]
