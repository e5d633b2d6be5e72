"""One way to ask about pictures, as any protocol has it: request -> query -> answers -> its own words.

Each protocol's module says how a query is read and how answers are told; all else is the same for all: key, permit,
deadline, limits, metrics, timing. Knows no protocol.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.classification import Asker, Classification
from app.api.endpoint import Guard, Operation, add
from app.dialects.reading import Body, expect_some
from app.errors import ServiceError
from app.http.dispatcher import HELD, Application, AsgiEndpoint
from app.http.problems import PROBLEM_JSON, Form
from app.http.request_log import timing_of
from app.http.upload_budget import BodyReservation
from app.inference.answer import Wanted
from app.inference.classifier import Classified, Classifier, Expected, Picture
from app.serving.registry import Model


@dataclass(frozen=True)
class Query:
    """What a request asks: about which pictures, for how many labels, until when. `options`: what its answer needs.

    `model` and `version`: where the body says them. `top_k`: None for all classes; more than there are means all, too.
    `comparable`: whether answers are to be compared with those to other requests, as embeddings are, which are of one
    model then: where none is named, no second one answers.
    """

    pictures: Sequence[Picture]
    top_k: int | None = None
    timeout_s: float = math.inf
    model: str | None = None
    version: str | None = None
    options: Any = None
    comparable: bool = False


class Answered(NamedTuple):
    """The answers to a query, in the order of its pictures."""

    request: Request
    query: Query
    model: Model
    answers: Sequence[Classified]


@dataclass(frozen=True)
class Route:
    """A `path` about pictures: how the query is read and answered. {model} and {version} in it are those asked for.

    `key_of`: a key that this protocol shows in a place of its own, which is known before the body is read.
    """

    path: str
    operation: Operation
    read: Callable[[Body], Awaitable[Query]]
    answer: Callable[[Answered], Response]
    form: Form = PROBLEM_JSON
    key_of: Callable[[Request], str | None] = field(default=lambda request: None)
    method: str = "POST"

    def handler(self, classification: Classification) -> "Handler":
        """What answers its requests."""
        return _Endpoint(Asking(classification), self)


Handler = Callable[[Request], Awaitable[Response]]


class PictureRoute(Protocol):
    """What a dialect dispatches past FastAPI."""

    @property
    def path(self) -> str:
        """Where it is, {model} and {version} in it those that are asked for."""
        ...

    @property
    def operation(self) -> Operation:
        """How it is described."""
        ...

    @property
    def form(self) -> Form:
        """How it tells errors."""
        ...

    @property
    def method(self) -> str:
        """Of HTTP."""
        ...

    def handler(self, classification: Classification) -> Handler:
        """What answers its requests."""
        ...


@dataclass(frozen=True)
class Info:
    """GET `path`: what only tells. `needs_key`: whether somebody without one is refused, unlike for health."""

    path: str
    operation: Operation
    handler: Callable[[Request], Awaitable[Response]]
    method: str = "GET"
    needs_key: bool = True
    key_of: Callable[[Request], str | None] = field(default=lambda request: None)


@dataclass(frozen=True)
class Dialect:
    """All that one protocol adds."""

    routes: tuple[PictureRoute, ...] = ()
    info: tuple[Info, ...] = ()

    def add_to(self, app: Application, classification: Classification) -> None:
        """Add its endpoints; those about pictures are dispatched past FastAPI, which only describes them."""
        router = APIRouter()
        locked = classification.keys.locked
        for route in self.routes:
            endpoint = AsgiEndpoint(
                route.path, route.handler(classification), None, classification.in_flight, route.form
            )
            add(
                router, route.path, endpoint.described, route.operation,
                method=route.method, description=route.operation.summary, needs_key=locked,
                only_described=route.path.startswith("/{"),
            )  # fmt: skip
            app.dispatch(route.method, route.path, classification.access(endpoint))
        for info in self.info:
            guard = _guard(classification, info.key_of) if info.needs_key else None
            add(
                router, info.path, info.handler, info.operation, method=info.method,
                response_class=Response, needs_key=locked if info.needs_key else None, guard=guard,
            )  # fmt: skip
        app.include_router(router)


@dataclass(frozen=True)
class Asking:
    """What is the same for every query, by whatever protocol it came."""

    classification: Classification

    async def answers(
        self,
        request: Asker,
        read: Callable[[BodyReservation], Awaitable[Query]],
        name: str | None = None,
        version: str | None = None,
        api_key: str | None = None,
    ) -> tuple[Query, Model, Sequence[Classified]]:
        """Let in, read and answer. `name`, `version`, `api_key`: those that are known before the query is read.

        Raises: ServiceError, ClientGone.
        """
        classification = self.classification
        classification.expect_key(request, api_key)
        clients_deadline = classification.clients_deadline(request)
        model = classification.asked(request, name, version)
        self._expect(request, model.classifier, clients_deadline)
        with classification.reserve() as reservation:
            query = await read(reservation)
            timing_of(request.scope).received()
            if query.timeout_s != math.inf:
                clients_deadline = min(clients_deadline, classification.within(request, query.timeout_s))
            asked = classification.models.asked if query.comparable else partial(classification.asked, request)
            model = asked(name or query.model, version or query.version)
            return query, model, await self._answers(request, query, model.classifier, clients_deadline)

    async def _answers(
        self, request: Asker, query: Query, classifier: Classifier, clients_deadline: float
    ) -> Sequence[Classified]:
        """An answer about each picture; an error about one of them is that of the request, and names its position."""
        classification, pictures = self.classification, query.pictures
        deadline, wanted = min(clients_deadline, classification.deadline()), _wanted(classifier, query.top_k)
        expect_some(len(pictures), classification.body_limits.max_images)
        if len(pictures) == 1:
            expected = self._expect(request, classifier, deadline)
            if not expected.permit.arrive():
                expected = classification.expect(request, classifier, deadline)
                expected.permit.arrive()
            return [await classification.classify_one(request, expected, pictures[0], wanted, deadline)]
        request.scope.pop(HELD).release()
        answers = await classification.classify_all(request, classifier, pictures, wanted, deadline)
        return list(_all_good(answers))

    def _expect(self, request: Asker, classifier: Classifier, deadline: float) -> Expected:
        """The permit that the request has, if it is this classifier's, else one of it. Raises: QueueFull, NotReady."""
        held: Expected | None = request.scope.get(HELD)
        if held is not None and held.classifier is classifier:
            return held
        return self.classification.expect(request, classifier, deadline)


@dataclass(frozen=True)
class _Endpoint:
    """One route over the collaborators of a request."""

    asking: Asking
    route: Route

    async def __call__(self, request: Request) -> Response:
        """One request. Raises: ServiceError, ClientGone."""
        limits, route, path = self.asking.classification.body_limits, self.route, request.path_params
        query, model, answers = await self.asking.answers(
            request,
            lambda reservation: route.read(Body(request, limits, reservation)),
            path.get("model"), path.get("version"), route.key_of(request),
        )  # fmt: skip
        return route.answer(Answered(request, query, model, answers))


def _guard(classification: Classification, key_of: Callable[[Request], str | None]) -> Guard:
    async def guard(request: Request) -> None:
        classification.expect_key(request, key_of(request))

    return guard


def _wanted(classifier: Classifier, top_k: int | None) -> Wanted:
    spec = classifier.spec
    most = spec.num_classes
    return Wanted(most if top_k is None else min(top_k, most), spec.energy_threshold)


def _all_good(answers: Iterable[Classified | ServiceError]) -> Iterable[Classified]:
    """Raises the first error, with the position of its picture, counted from 0."""
    for position, answer in enumerate(answers):
        if isinstance(answer, ServiceError):
            answer.args = (f"Picture {position}: {answer.detail}", *answer.args[1:])
            raise answer
        yield answer
