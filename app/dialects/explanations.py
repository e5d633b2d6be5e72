"""One way to ask for explanations, as any protocol has it: request -> pictures -> explanations -> its own words.

Knows no protocol.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fastapi import Request
from starlette.responses import Response

from app.api.classification import Classification
from app.api.endpoint import Operation
from app.api.explain import Explained, body_of, explained
from app.dialects.dialect import Handler
from app.dialects.reading import Body, expect_some
from app.errors import ServiceError
from app.explanation.explainer import Explainer
from app.explanation.wanted import Asked, wanted_of
from app.http.problems import PROBLEM_JSON, Form
from app.http.request_log import timing_of
from app.inference.classifier import Picture


class Query(NamedTuple):
    """Which pictures a request wants explained, and how."""

    pictures: Sequence[Picture]
    asked: Asked


@dataclass(frozen=True)
class ExplainRoute:
    """A `path` about explanations: how the query is read and answered. {model} and {version} in it are those asked."""

    path: str
    operation: Operation
    read: Callable[[Body], Awaitable[Query]]
    answer: Callable[[Sequence[Explained]], Response]
    form: Form = PROBLEM_JSON
    method: str = "POST"

    def handler(self, classification: Classification) -> Handler:
        """What answers its requests."""
        return _Handler(classification, self)


@dataclass(frozen=True)
class _Handler:
    classification: Classification
    route: ExplainRoute

    async def __call__(self, request: Request) -> Response:
        """One request. Its pictures are explained one after the other. Raises: ServiceError, ClientGone."""
        classification, path = self.classification, request.path_params
        classification.expect_key(request)
        classification.release(request)
        name, version = path.get("model"), path.get("version")
        classification.models.asked(name, version)
        clients_deadline = classification.clients_deadline(request)
        with classification.reserve() as reservation:
            query = await self.route.read(Body(request, classification.body_limits, reservation))
            timing_of(request.scope).received()
            expect_some(len(query.pictures), classification.body_limits.max_images)
            deadline = min(clients_deadline, classification.deadline())
            explainer = Explainer(classification.models.asked(name, version).classifier)
            return self.route.answer(await self._explained(request, explainer, query, deadline))

    async def _explained(
        self, request: Request, explainer: Explainer, query: Query, deadline: float
    ) -> Sequence[Explained]:
        wanted = wanted_of(explainer.spec, query.asked)
        bodies: list[Explained] = []
        for position, picture in enumerate(query.pictures):
            try:
                explanation = await explained(self.classification, request, explainer, picture, wanted, deadline)
            except ServiceError as error:
                if len(query.pictures) > 1:
                    error.args = (f"Picture {position}: {error.detail}", *error.args[1:])
                raise
            bodies.append(body_of(explainer, wanted, explanation))
        return bodies
