"""A real service: equal answers for every kind of image, errors by their codes, little room, and a restart."""

import io
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixer_client import (
    AsyncClient,
    BadImage,
    BadParameter,
    Classification,
    Client,
    NoEmbedding,
    QueueFull,
    Region,
    ServiceError,
    TimedOut,
    Unauthorized,
    UnknownModel,
    UnsupportedFormat,
)
from tests.app.collector import collecting
from tests.app.color_bundle import BLUE, GREEN, RED, image
from tests.app.servers import PATIENCE_S, ROOT, Server
from tests.faults.wire import gated, served

pytestmark = pytest.mark.process

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
KEY = "k" * 20


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def client(service: Server) -> Iterator[Client]:
    with Client(address(service), timeout_s=PATIENCE_S) as client:
        yield client


def as_png(pixels: np.ndarray) -> bytes:  # type: ignore[type-arg]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


# --- what is answered ---


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[..., 0]], ids=["color", "grey"])
def test_a_path_its_bytes_an_image_of_pillow_and_an_array_have_equal_answers(
    pixels: np.ndarray,
    client: Client,
    tmp_path: Path,  # type: ignore[type-arg]
) -> None:
    content = as_png(pixels)
    (tmp_path / "a.png").write_bytes(content)
    given = [tmp_path / "a.png", str(tmp_path / "a.png"), content, Image.open(io.BytesIO(content)), pixels]
    answers = [client.classify(one).predictions for one in given]
    assert answers == [answers[0]] * len(given)


def test_an_answer_has_a_label_an_id_and_its_times(client: Client) -> None:
    found = client.classify(image(BLUE), top_k=2)
    assert (found.label, len(found.predictions)) == ("blue", 2)
    assert 0.9 < found.probability <= 1
    assert (found.model.name, found.model.version, found.model.precision) == ("colours", "7", "fp32")
    assert (found.uncertain, found.energy, found.set) == (None, None, None)
    assert len(found.request_id) == 32
    assert set(found.timing) == {"receive", "decode", "queue", "infer", "total"}
    assert found.batch_size is not None


def test_a_threshold_makes_it_say_whether_it_is_sure(client: Client) -> None:
    found = client.classify(image(RED), threshold=100)
    assert found.uncertain is True
    assert found.energy == pytest.approx(10, abs=0.01)


def test_an_embedding_has_length_one(client: Client) -> None:
    found = client.embed(image(RED))
    assert len(found) == 48
    assert math.sqrt(sum(value * value for value in found)) == pytest.approx(1, abs=1e-6)


def test_an_embedding_that_is_not_normalized_is_what_the_graph_gives(client: Client) -> None:
    found = client.embed(image(RED), model="colours", normalized=False)
    assert list(found) == [255.0, 0.0, 0.0] * 16
    with pytest.raises(UnknownModel):
        client.embed(image(RED), model="none", normalized=False)


def test_an_explanation_tells_what_of_the_image_speaks_for_a_label(client: Client) -> None:
    """Red above and green below: four patches, each of which is hidden once, and the whole image."""
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:4, :, 0] = pixels[4:, :, 1] = 255
    found = client.explain(pixels, "red")
    (upper, lower) = found.grid.values
    assert (found.grid.rows, found.grid.columns) == (2, 2)
    assert min(upper) > 1
    assert max(lower) < -1
    assert (found.target.label, found.target.index) == ("red", 0)
    assert (found.method, found.baseline, found.unit, found.runs) == ("occlusion", "mean", "logit", 5)
    assert found.region == Region(0, 0, 8, 8, 8, 8)
    assert found.model.name == "colours"
    assert len(found.request_id) == 32
    assert set(found.timing) == {"receive", "decode", "queue", "infer", "total"}


def test_an_explanation_may_be_asked_for_by_index_in_another_way_and_not_of_what_is_unknown(client: Client) -> None:
    found = client.explain(image(BLUE), 1, method="rise", baseline="border", model="colours")
    assert (found.target.label, found.method, found.baseline) == ("green", "rise", "border")
    assert client.explain(image(BLUE)).target.label == "blue"
    for options in ({"target": "grey"}, {"target": 3}, {"method": "lime"}, {"baseline": "noise"}):
        with pytest.raises(BadParameter):
            client.explain(image(BLUE), **options)  # type: ignore[arg-type]
    with pytest.raises(BadImage):
        client.explain(b"no picture")
    with pytest.raises(UnknownModel):
        client.explain(image(BLUE), model="none")


def test_the_models_and_whether_it_is_ready_are_told(client: Client) -> None:
    found = client.models()
    assert [one.name for one in found.models] == [found.default]
    assert (found.models[0].model, found.models[0].num_classes, found.models[0].ready) == ("colours", 3, True)
    assert client.ready()


def test_errors_are_those_of_the_service(client: Client) -> None:
    for given, options, kind in (
        (b"no picture", {}, BadImage),
        (b"%PDF-1.7 and so on", {}, UnsupportedFormat),
        (image(RED), {"top_k": 900}, BadParameter),
        (image(RED), {"coverage": 0.9}, BadParameter),
        (image(RED), {"model": "none"}, UnknownModel),
    ):
        with pytest.raises(kind) as raised:
            client.classify(given, **options)  # type: ignore[arg-type]
        assert len(raised.value.request_id) == 32  # type: ignore[attr-defined]
    with pytest.raises(UnknownModel):
        client.embed(image(RED), model="none")
    assert issubclass(NoEmbedding, ServiceError)


def test_a_key_is_asked_for(bundle: Path) -> None:
    with served(bundle, "--workers", "1", "--api-keys", KEY) as running:
        running.wait_until_serving()
        with Client(address(running), key=KEY, timeout_s=PATIENCE_S) as known:
            assert known.classify(image(RED)).label == "red"
        with Client(address(running)) as unknown, pytest.raises(Unauthorized):
            unknown.classify(image(RED))
        with Client(address(running)) as unknown, pytest.raises(Unauthorized):
            unknown.embed(image(RED))


# --- no time, no room ---


def test_an_answer_that_takes_too_long_is_given_up_in_time(bundle: Path) -> None:
    with gated(bundle) as running:
        running.wait_until_serving()
        with Client(address(running)) as client, pytest.raises(TimedOut):
            client.classify(image(RED), timeout_s=0.3)


COLORS = [(RED, "red"), (GREEN, "green"), (BLUE, "blue")]
IMAGES = [image(color) for color, _ in COLORS]


def colors(count: int) -> Iterator[bytes]:
    return (IMAGES[number % 3] for number in range(count))


def expect_right(found: Classification | None, position: int) -> None:
    assert found is not None
    assert found.label == COLORS[position % 3][1]


def sent_to(running: Server) -> int:
    """Requests for /classify that the service has counted, refused ones too."""
    lines = running.get("/metrics").splitlines()
    counts = [line for line in lines if line.startswith("mixer_requests_total{") and 'endpoint="/classify"' in line]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in counts))


def room_for(count: int) -> list[str]:
    return ["--queue-capacity", str(count), "--max-images-per-request", str(count)]


@pytest.mark.parametrize("capacity", [2, 8])
def test_a_service_with_little_room_gets_a_tenth_more_and_loses_nothing(bundle: Path, capacity: int) -> None:
    count = 1000
    with served(bundle, "--workers", "1", *room_for(capacity)) as running:
        running.wait_until_serving()
        with Client(address(running), timeout_s=PATIENCE_S) as client:
            for result in client.classify_many(colors(count), concurrency=32, top_k=1):
                expect_right(result.classification, result.position)
        assert count <= sent_to(running) <= 1.1 * count


async def test_tasks_do_not_lose_anything_either(bundle: Path) -> None:
    count = 500
    with served(bundle, "--workers", "1", *room_for(4)) as running:
        running.wait_until_serving()
        async with AsyncClient(address(running), timeout_s=PATIENCE_S) as client:
            async for result in client.classify_many(colors(count), concurrency=32, top_k=1):
                expect_right(result.classification, result.position)
        assert count <= sent_to(running) <= 1.1 * count + 10


def test_a_restart_loses_nothing(bundle: Path) -> None:
    """It drains, ends, and another starts at the same address, while images are on their way."""
    count, a_third = 1500, threading.Event()
    results = []
    with served(bundle, "--workers", "1") as first, Client(address(first), timeout_s=PATIENCE_S) as client:
        first.wait_until_serving()

        def classify() -> None:
            for result in client.classify_many(colors(count), concurrency=8, top_k=1):
                results.append(result)
                if len(results) == count // 3:
                    a_third.set()

        asking = threading.Thread(target=classify)
        asking.start()
        assert a_third.wait(PATIENCE_S)
        first.signal(signal.SIGTERM)
        assert first.exit_code() == 0
        assert len(results) < count
        flags = ["--port", str(first.port), "--bundle", str(bundle), "--workers", "1"]
        with Server("-m", "cli", "serve", *flags, port=first.port) as second:
            second.wait_until_serving()
            asking.join(PATIENCE_S)
            assert not asking.is_alive()
    assert [result.error for result in results if result.error is not None] == []
    assert len(results) == count
    for result in results:
        expect_right(result.classification, result.position)


def test_a_service_that_is_killed_and_started_again_loses_nothing(bundle: Path) -> None:
    count, a_third = 900, threading.Event()
    errors: list[BaseException] = []
    with served(bundle, "--workers", "1") as first, Client(address(first), timeout_s=PATIENCE_S) as client:
        first.wait_until_serving()

        def classify() -> None:
            for result in client.classify_many(colors(count), concurrency=8, top_k=1):
                if result.error is not None:
                    errors.append(result.error)
                if result.position == count // 3:
                    a_third.set()

        asking = threading.Thread(target=classify)
        asking.start()
        assert a_third.wait(PATIENCE_S)
        first.signal(signal.SIGKILL)
        first.exit_code()
        flags = ["--port", str(first.port), "--bundle", str(bundle), "--workers", "1"]
        with Server("-m", "cli", "serve", *flags, port=first.port) as second:
            second.wait_until_serving()
            asking.join(PATIENCE_S)
            assert not asking.is_alive()
    assert errors == []


def test_who_has_no_time_to_wait_is_told_at_once(bundle: Path) -> None:
    with gated(bundle, *room_for(1)) as running:
        running.wait_until_serving()
        with Client(address(running)) as first, Client(address(running)) as second:
            held = threading.Thread(target=lambda: first.classify(image(RED), timeout_s=PATIENCE_S))
            held.start()
            running.wait_for("a run has begun")
            with pytest.raises(QueueFull) as raised:
                second.classify(image(RED), timeout_s=0.9)
            assert raised.value.retry_after_s is not None
            assert raised.value.retry_after_s >= 1
            running.signal(signal.SIGUSR1)
            held.join(PATIENCE_S)
            assert not held.is_alive()


# --- who uses it ---

CONSUMER = """
import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from mixer_client import AsyncClient, Classification, Client, Explanation, Image, MixerError, QueueFull, Result


def label(client: Client, image: Image) -> str:
    try:
        found: Classification = client.classify(image, top_k=3)
    except QueueFull as error:
        return f"again in {error.retry_after_s} s" if error.retry_after_s is not None else error.code
    return found.label if not found.uncertain else found.predictions[0].label


def everything(client: Client) -> list[str]:
    given: list[Image] = [Path("a.jpg"), "a.jpg", b"", Pillow.new("RGB", (2, 2)), np.zeros((2, 2, 3), np.uint8)]
    results: Iterator[Result] = client.classify_many(given)
    explanation: Explanation = client.explain(given[0], "red")
    numbers: list[float] = list(client.embed(b""))
    return [one.classification.label for one in results if one.classification is not None]


async def asynchronously() -> None:
    async with AsyncClient(key="k") as client:
        async def images() -> AsyncIterator[bytes]:
            yield b""
        async for result in client.classify_many(images(), ordered=False):
            error: MixerError | None = result.error
        found: Classification = await client.classify(b"")


asyncio.run(asynchronously())
"""


@pytest.mark.heavy
def test_a_program_that_uses_it_passes_a_strict_type_checker(tmp_path: Path) -> None:
    (tmp_path / "sound.py").write_text(CONSUMER)
    (tmp_path / "unsound.py").write_text(
        "from mixer_client import Client\nfound: int = Client().classify(b'').label\nClient().classify(3)\n"
    )

    def checked(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "/dev/null", "--cache-dir", str(tmp_path)]
        environment = {"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            [*command, str(tmp_path / name)], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    sound = checked("sound.py")
    assert sound.returncode == 0, sound.stdout + sound.stderr
    unsound = checked("unsound.py").stdout
    assert "unsound.py:2: error: Incompatible types in assignment" in unsound
    assert 'unsound.py:3: error: Argument 1 to "classify"' in unsound


def test_a_callers_span_is_the_parent_of_the_services(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    parent = trace.SpanContext(7, 8, is_remote=False, trace_flags=trace.TraceFlags(1))
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with served(bundle, "--workers", "1") as running:
            running.wait_until_serving()
            with (
                Client(address(running), timeout_s=PATIENCE_S) as client,
                trace.use_span(trace.NonRecordingSpan(parent)),
            ):
                found = client.classify(image(RED))
            span = collector.of_trace(f"{7:032x}")["POST /classify"]
    assert span.parent_span_id.hex() == f"{8:016x}"
    assert found.request_id in str(span)
