"""The client, for programs without an event loop. Threads may share one."""

import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

import httpx

from mixer_client import calls, many, retries
from mixer_client.answers import Classification, Embedding, Explanation, Models, Result
from mixer_client.attempts import Attempts
from mixer_client.calls import Call, Target, Wish
from mixer_client.connections import Connections
from mixer_client.errors import MixerError
from mixer_client.images import Image, payload_of
from mixer_client.pace import Pace
from mixer_client.retries import Retries

T = TypeVar("T")


class Client:
    """A service at `base_url`, which may end in a path. Keep one: its connections are used again.

    key: an API key, where the service asks for one. timeout_s: seconds for an answer, with all waiting and asking
    again; each method may be given another. retries: how much may be asked anew. transport: what connects, as
    httpx.HTTPTransport(verify=...) for a certificate of one's own. clock: seconds, from any start.

    Every method that asks raises MixerError's children, among them BadInput before anything is sent; OSError where an
    image is a path that cannot be read.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 10.0,
        retries: Retries = retries.DEFAULT,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = Target(base_url, key)
        self._timeout_s = calls.expect_seconds(timeout_s)
        self._retries, self._clock = retries, clock
        self._pace = Pace(retries)
        self._turns = threading.Condition()
        self._connections = Connections(self._target.address, transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections. It can ask nothing after that."""
        self._connections.close()

    def classify(
        self,
        image: Image,
        *,
        model: str | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
        coverage: float | None = None,
        timeout_s: float | None = None,
    ) -> Classification:
        """The labels of one image.

        top_k: how many. threshold: of the energy, below which the answer is uncertain. coverage: the probability with
        which the true label is to be in `set`, above 0 and below 1.
        """
        call = calls.classification(payload_of(image), Wish(model, top_k, threshold, coverage))
        return self._ask(call, timeout_s)

    def classify_many(
        self,
        images: Iterable[Image],
        *,
        concurrency: int = 8,
        ordered: bool = True,
        model: str | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
        coverage: float | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[Result]:
        """The labels of many images, `concurrency` at once, each as soon as it is known; or, `ordered`, as given.

        No image raises: its error stands in its result. Of `images` no more than twice `concurrency` are in hand;
        they are read in the caller's thread, and what they raise is raised here. The time of an image begins when it
        may be sent.
        """
        wish, stopped = Wish(model, top_k, threshold, coverage), threading.Event()

        def stop() -> None:
            stopped.set()
            with self._turns:
                self._turns.notify_all()

        def answered(position: int, image: Image) -> Result:
            try:
                call = calls.classification(payload_of(image), wish)
                classification = self._ask(call, timeout_s, stopped)
            except (MixerError, OSError) as error:
                return Result(position, image, error=many.as_value(error))
            return Result(position, image, classification)

        return many.in_threads(images, answered, many.expect_positive(concurrency), stop, ordered=ordered)

    def embed(
        self, image: Image, *, model: str | None = None, normalized: bool = True, timeout_s: float | None = None
    ) -> "array[float]":
        """What the model sees in an image: float32 numbers, of length 1 together.

        normalized: False for the numbers as the model's graph gives them; `model` has to be named then.
        """
        if not normalized:
            return self.embedding(image, model=model, timeout_s=timeout_s).values
        return self._ask(calls.unit_embedding(payload_of(image), model), timeout_s)

    def embedding(self, image: Image, *, model: str | None, timeout_s: float | None = None) -> Embedding:
        """The numbers as the model's graph gives them, and which model that is; `model` has to be named."""
        return self._ask(calls.raw_embedding(payload_of(image), model), timeout_s)

    def explain(
        self,
        image: Image,
        target: str | int | None = None,
        *,
        method: str = "occlusion",
        baseline: str = "mean",
        model: str | None = None,
        timeout_s: float | None = None,
    ) -> Explanation:
        """Which parts of an image speak for a label. target: a label or its index; None: the most probable."""
        return self._ask(calls.explanation(payload_of(image), target, method, baseline, model), timeout_s)

    def models(self, *, timeout_s: float | None = None) -> Models:
        """The models that are served."""
        return self._ask(calls.models(), timeout_s)

    def ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the service is there and classifies rightly. Asks once, and raises nothing where it is not."""
        left_s = self._timeout_s if timeout_s is None else calls.expect_seconds(timeout_s)
        call = calls.readiness()
        with suppress(httpx.RequestError):
            return call.read(self._connections.send(self._target.request(call, left_s)))
        return False

    def _ask(self, call: Call[T], timeout_s: float | None, stopped: threading.Event | None = None) -> T:
        """`stopped`: of one image of many, which may wait for its turn until nobody wants it."""
        given_s = self._timeout_s if timeout_s is None else calls.expect_seconds(timeout_s)
        attempts = Attempts(
            self._pace, self._retries, self._clock, given_s,
            is_patient=stopped is not None, is_wanted=lambda: stopped is None or not stopped.is_set(),
        )  # fmt: skip
        while True:
            self._wait_for_turn(attempts)
            answer = self._send(call, attempts)
            if answer is not None:
                return call.read(answer)

    def _wait_for_turn(self, attempts: Attempts) -> None:
        with self._turns:
            try:
                while (wait_s := attempts.turn_s()) > 0:
                    self._turns.wait(min(wait_s, threading.TIMEOUT_MAX))
            finally:
                if self._pace.has_room():
                    self._turns.notify()

    def _send(self, call: Call[T], attempts: Attempts) -> httpx.Response | None:
        """The answer; None where it is to be asked again."""
        try:
            answer = self._connections.send(self._target.request(call, attempts.left_s))
        except httpx.RequestError as error:
            with self._turns:
                self._turns.notify()
                attempts.failed(error, self._target.address)
            return None
        except BaseException:
            with self._turns:
                self._turns.notify()
                attempts.gave_up()
            raise
        with self._turns:
            self._turns.notify()
            return attempts.answered(answer)
