"""Client and AsyncClient ask alike: what is sent, what is sent again, what is raised. The service is a stand-in."""

import asyncio
import inspect
import json
import math
import ssl
import struct
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from mixer_client import (
    AsyncClient,
    BadAnswer,
    BadImage,
    BadInput,
    Client,
    ConnectFailed,
    DeadlinePassed,
    QueueFull,
    Retries,
    ServiceError,
    TimedOut,
    Unauthorized,
)
from tests.mixer_client.stand_in import Clock, Service, busy, classified, problem
from tests.mixer_client.test_parsing import EXPLAINED

IMAGE = b"an image"
AT_ONCE = Retries(jitter=lambda low, high: 0.0)
RESET = httpx.ReadError("reset")


class Asking:
    """One of the clients, as a function of what to do with it."""

    def __init__(self, kind: type[Client | AsyncClient]) -> None:
        self._kind = kind

    def __call__(self, service: Service, method: str, *given: Any, **options: Any) -> Any:
        asked = {name: options.pop(name) for name in list(options) if name in ("base_url", "key", "retries", "clock")}
        asked = {"retries": AT_ONCE, "transport": service.transport, **asked}
        if self._kind is Client:
            with Client(**asked) as client:
                return getattr(client, method)(*given, **options)

        async def asking() -> Any:
            async with AsyncClient(**asked) as client:
                return await getattr(client, method)(*given, **options)

        return asyncio.run(asking())


@pytest.fixture(params=[Client, AsyncClient])
def ask(request: pytest.FixtureRequest) -> Asking:
    return Asking(request.param)


# --- what is sent ---


def test_an_image_is_the_body_of_a_post_that_says_how_much_time_is_left(ask: Asking) -> None:
    service = Service(classified())
    found = ask(service, "classify", IMAGE, clock=Clock(), timeout_s=2.5)
    assert found.label == "red"
    (request,) = service.requests
    assert (request.method, str(request.url), request.content) == ("POST", "http://127.0.0.1:8000/classify", IMAGE)
    assert request.headers["Content-Type"] == "application/octet-stream"
    assert request.headers["X-Request-Timeout-Ms"] == "2500"
    assert request.extensions["timeout"]["read"] == 2.5
    assert "Authorization" not in request.headers


def test_what_is_wished_for_stands_in_the_query(ask: Asking) -> None:
    service = Service(classified())
    ask(service, "classify", IMAGE, model="a b&c", top_k=2, threshold=-1.5, coverage=0.9)
    assert dict(service.requests[0].url.params) == {"model": "a b&c", "top_k": "2", "threshold": "-1.5", "set": "0.9"}


def test_the_key_is_sent_and_the_address_may_have_a_path(ask: Asking) -> None:
    service = Service(classified())
    ask(service, "classify", IMAGE, base_url="https://host.example/mixer/", key="k" * 16)
    assert str(service.requests[0].url) == "https://host.example/mixer/classify"
    assert service.requests[0].headers["Authorization"] == "Bearer " + "k" * 16


def test_an_embedding_is_asked_for_in_base64(ask: Asking) -> None:
    answer = {"data": [{"embedding": b64encode(struct.pack("<2f", 0.6, -0.8)).decode()}]}
    service = Service(httpx.Response(200, json=answer))
    found = ask(service, "embed", IMAGE, model="clothes")
    assert [round(value, 6) for value in found] == [0.6, -0.8]
    body = json.loads(service.requests[0].content)
    assert service.requests[0].url.path == "/v1/embeddings"
    assert b64decode(body.pop("input")) == IMAGE
    assert body == {"encoding_format": "base64", "model": "clothes"}


def test_an_embedding_that_is_not_normalized_is_asked_for_over_the_open_inference_protocol(ask: Asking) -> None:
    service = Service(httpx.Response(200, json={"outputs": [{"name": "embedding", "data": [3.0, -4.5]}]}))
    found = ask(service, "embed", IMAGE, model="a/b", normalized=False)
    assert list(found) == [3.0, -4.5]
    (request,) = service.requests
    assert request.url.raw_path == b"/v2/models/a%2Fb/infer"
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [b64encode(IMAGE).decode()]}
    assert json.loads(request.content) == {"inputs": [image], "outputs": [{"name": "embedding"}]}


def test_an_embedding_that_is_not_normalized_needs_the_name_of_a_model(ask: Asking) -> None:
    service = Service(classified())
    with pytest.raises(BadInput, match="model is None; expected a name"):
        ask(service, "embed", IMAGE, normalized=False)
    assert service.requests == []


@pytest.mark.parametrize(("target", "sent"), [(None, {}), ("red", {"target": "red"}), (0, {"target": "0"})])
def test_an_explanation_is_asked_for_with_a_target_by_label_or_index(
    target: str | int | None, sent: dict[str, str], ask: Asking
) -> None:
    service = Service(httpx.Response(200, json=EXPLAINED))
    found = ask(service, "explain", IMAGE, target, model="colours")
    assert found.grid.values == ((0.5, -0.25),)
    request = service.requests[0]
    assert (request.method, request.url.path, request.content) == ("POST", "/explain", IMAGE)
    assert dict(request.url.params) == {"method": "occlusion", "baseline": "mean", "model": "colours", **sent}


def test_the_models_are_asked_for(ask: Asking) -> None:
    service = Service(httpx.Response(200, json={"default": "a", "models": []}))
    assert ask(service, "models").default == "a"
    assert (service.requests[0].method, service.requests[0].url.path) == ("GET", "/models")


@pytest.mark.parametrize(
    ("answer", "is_ready"),
    [(httpx.Response(200, json={}), True), (problem(503, "not_ready"), False), (httpx.ConnectError("no"), False)],
)
def test_whether_it_is_ready_is_asked_once_and_raises_nothing(
    answer: httpx.Response | Exception, is_ready: bool, ask: Asking
) -> None:
    service = Service(answer)
    assert ask(service, "ready") is is_ready
    assert [request.url.path for request in service.requests] == ["/health/ready"]


# --- what is sent again ---


@pytest.mark.parametrize(
    "first", [busy(0), problem(503, "not_ready"), httpx.ConnectError("refused"), RESET, httpx.WriteError("pipe"),
              httpx.RemoteProtocolError("Server disconnected without sending a response.")]
)  # fmt: skip
def test_where_the_service_is_busy_or_the_connection_ends_it_is_sent_again(
    first: httpx.Response | Exception, ask: Asking
) -> None:
    service = Service(first, first, classified())
    assert ask(service, "classify", IMAGE).label == "red"
    assert [request.content for request in service.requests] == [IMAGE] * 3


@pytest.mark.parametrize("status", [400, 401, 404, 413, 415, 422, 500, 501, 502, 504])
def test_any_other_error_is_raised_at_once(status: int, ask: Asking) -> None:
    service = Service(problem(status, "some_code"), classified())
    with pytest.raises(ServiceError) as raised:
        ask(service, "classify", IMAGE)
    assert (raised.value.status, len(service.requests)) == (status, 1)


def test_an_error_is_of_the_class_of_its_code(ask: Asking) -> None:
    for status, code, kind in ((400, "bad_picture", BadImage), (401, "bad_api_key", Unauthorized)):
        with pytest.raises(kind, match=f"{status} {code}: It is so."):
            ask(Service(problem(status, code)), "classify", IMAGE)


def test_what_is_left_of_the_time_is_told_at_each_attempt(ask: Asking) -> None:
    clock = Clock()

    def later(answer: httpx.Response) -> Callable[[httpx.Request], httpx.Response]:
        def answering(_: httpx.Request) -> httpx.Response:
            clock.now += 1.5
            return answer

        return answering

    service = Service(later(busy(0)), later(busy(0)), later(classified()))
    ask(service, "classify", IMAGE, clock=clock, timeout_s=5)
    assert [request.headers["X-Request-Timeout-Ms"] for request in service.requests] == ["5000", "3500", "2000"]


def test_where_the_wait_would_pass_the_deadline_the_services_error_is_raised_at_once(ask: Asking) -> None:
    service = Service(busy(60))
    started = time.perf_counter()
    with pytest.raises(QueueFull) as raised:
        ask(service, "classify", IMAGE, timeout_s=30, retries=Retries())
    assert time.perf_counter() - started < 10
    assert (raised.value.retry_after_s, raised.value.detail) == (60.0, "There is no room.")
    assert len(service.requests) == 1


def test_other_calls_wait_for_the_same_pause() -> None:
    service = Service(busy(60), classified())
    with Client(transport=service.transport, timeout_s=30) as client:
        for _ in range(5):
            with pytest.raises(QueueFull):
                client.classify(IMAGE)
    assert len(service.requests) == 1


def test_an_image_whose_connection_always_ends_is_sent_four_times(ask: Asking) -> None:
    service = Service(RESET)
    with pytest.raises(ConnectFailed, match=r"http://127\.0\.0\.1:8000 does not answer: reset"):
        ask(service, "classify", IMAGE)
    assert len(service.requests) == 4


def test_nothing_is_sent_again_where_there_is_one_attempt(ask: Asking) -> None:
    for first, kind in ((busy(0), QueueFull), (RESET, ConnectFailed), (httpx.ConnectError("no"), ConnectFailed)):
        service = Service(first)
        with pytest.raises(kind):
            ask(service, "classify", IMAGE, retries=Retries(max_attempts=1))
        assert len(service.requests) == 1


def test_a_certificate_that_is_not_trusted_is_not_asked_again(ask: Asking) -> None:
    error = httpx.ConnectError("certificate verify failed")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    service = Service(error)
    with pytest.raises(ConnectFailed, match="certificate verify failed"):
        ask(service, "classify", IMAGE)
    assert len(service.requests) == 1


def test_a_connection_that_ends_below_tls_is_asked_again(ask: Asking) -> None:
    error = httpx.ConnectError("EOF occurred in violation of protocol")
    error.__cause__ = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
    service = Service(error, classified())
    assert ask(service, "classify", IMAGE).label == "red"
    assert len(service.requests) == 2


def test_no_answer_in_time_is_not_asked_again(ask: Asking) -> None:
    for error in (httpx.ReadTimeout("slow"), httpx.ConnectTimeout("slow")):
        service = Service(error)
        with pytest.raises(TimedOut, match=r"gave no answer within 3 s"):
            ask(service, "classify", IMAGE, timeout_s=3)
        assert len(service.requests) == 1


def test_the_services_own_deadline_is_a_timeout_too(ask: Asking) -> None:
    with pytest.raises(TimedOut) as raised:
        ask(Service(problem(504, "deadline_passed")), "classify", IMAGE)
    assert isinstance(raised.value, DeadlinePassed)


def test_an_answer_of_somebody_else_is_a_bad_answer(ask: Asking) -> None:
    with pytest.raises(BadAnswer, match="<html>"):
        ask(Service(httpx.Response(200, content=b"<html>")), "classify", IMAGE)


def test_an_answer_whose_compression_is_broken_is_a_bad_answer(ask: Asking) -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))

    service = Service(broken)
    with pytest.raises(BadAnswer, match=r"^http://127\.0\.0\.1:8000 gives an answer whose compression is broken"):
        ask(service, "classify", IMAGE)
    assert len(service.requests) == 1
    assert ask(service, "ready") is False


def test_where_somebody_between_leads_elsewhere_the_status_is_told(ask: Asking) -> None:
    with pytest.raises(BadAnswer, match=r"^/classify answers 301 ''; expected"):
        ask(Service(httpx.Response(301, headers={"Location": "https://elsewhere/"})), "classify", IMAGE)


# --- what cannot be asked ---


@pytest.mark.parametrize("address", ["", "127.0.0.1:8000", "ftp://host", "http://", "http://host/?a=b", "http://[::1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(BadInput, match="expected http://HOST:PORT"):
            kind(address)


def test_an_address_with_a_password_is_refused_and_not_shown() -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(BadInput, match="base_url has a user or a password") as raised:
            kind("http://somebody:secret@host:8000")
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize("key", ["", " ", "a-key ", " a-key"])
def test_a_key_with_nothing_or_space_around_it_is_refused_and_not_shown(key: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(BadInput, match=r"^key is empty, or has a space before or after it") as raised:
            kind(key=key)
        assert "a-key" not in str(raised.value)


@pytest.mark.parametrize(("model", "told"), [("\udcff", "model is '.udcff'"), ("a" * 70_000, "make no address")])
def test_what_no_address_can_hold_is_refused(model: str, told: str, ask: Asking) -> None:
    service = Service(classified())
    with pytest.raises(BadInput, match=told):
        ask(service, "classify", IMAGE, model=model)
    assert service.requests == []


@pytest.mark.parametrize("key", ["a\r\nX-Other: b", "schlüssel", "\0"])
def test_a_key_that_no_header_may_have_is_refused_and_not_shown(key: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(BadInput, match="key has characters that no header may have") as raised:
            kind(key=key)
        assert key not in str(raised.value)


@pytest.mark.parametrize("timeout_s", [0, -1, math.inf, math.nan])
def test_an_impossible_time_is_refused(timeout_s: float, ask: Asking) -> None:
    service = Service(classified())
    with pytest.raises(BadInput, match="expected seconds, more than 0"):
        ask(service, "classify", IMAGE, timeout_s=timeout_s)
    assert service.requests == []


# --- several at once ---


class Slow(httpx.AsyncBaseTransport):
    """Answers nothing until it is told to."""

    def __init__(self) -> None:
        self.arrived, self.may_answer = asyncio.Event(), asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.arrived.set()
        await self.may_answer.wait()
        return classified()


async def test_an_answer_that_never_comes_is_given_up_in_time() -> None:
    async with AsyncClient(transport=Slow()) as client:
        with pytest.raises(TimedOut, match=r"within 0\.05 s"):
            await client.classify(IMAGE, timeout_s=0.05)


async def test_a_call_that_is_cancelled_makes_room_for_others() -> None:
    slow = Slow()
    async with AsyncClient(transport=slow, retries=Retries(reserve=1)) as client:
        first = asyncio.create_task(client.classify(IMAGE))
        await slow.arrived.wait()
        second = asyncio.create_task(client.classify(IMAGE))
        third = asyncio.create_task(client.classify(IMAGE))
        await asyncio.sleep(0)
        second.cancel()
        first.cancel()
        slow.may_answer.set()
        assert (await third).label == "red"


def test_what_a_transport_raises_passes_through_and_makes_room(ask: Asking) -> None:
    def breaks(_: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    service = Service(breaks)
    with pytest.raises(ZeroDivisionError):
        ask(service, "classify", IMAGE, retries=Retries(reserve=1))
    once = Service(breaks, classified())
    with Client(transport=once.transport, retries=Retries(reserve=1), timeout_s=60) as client:
        with pytest.raises(ZeroDivisionError):
            client.classify(IMAGE)
        assert client.classify(IMAGE).label == "red"


def test_threads_share_a_client() -> None:
    gate = threading.Barrier(4, timeout=60)

    def together(_: httpx.Request) -> httpx.Response:
        gate.wait()
        return classified()

    with Client(transport=httpx.MockTransport(together)) as client:
        threads = [threading.Thread(target=client.classify, args=(IMAGE,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)


def test_a_thread_that_waits_for_room_goes_when_another_has_its_answer() -> None:
    entered, may_answer = threading.Event(), threading.Event()

    def slowly(_: httpx.Request) -> httpx.Response:
        entered.set()
        assert may_answer.wait(60)
        return classified()

    labels: list[str] = []
    with Client(transport=httpx.MockTransport(slowly), retries=Retries(reserve=1), timeout_s=60) as client:
        threads = [threading.Thread(target=lambda: labels.append(client.classify(IMAGE).label)) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert entered.wait(60)
        may_answer.set()
        for thread in threads:
            thread.join(60)
    assert labels == ["red"] * 3


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def parameters(kind: type) -> dict[str, list[str]]:
        public = {name: member for name, member in vars(kind).items() if name[0] != "_" or name == "__init__"}
        return {name: list(inspect.signature(member).parameters) for name, member in public.items()}

    assert parameters(Client) == parameters(AsyncClient)
