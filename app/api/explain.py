"""POST /explain: how much each part of a picture carries its label, as numbers or laid over it. HTTP only."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

from fastapi import APIRouter, Request
from pydantic_core import to_json
from starlette.responses import Response

from app.api import descriptions
from app.api.accept import VARY, prefers
from app.api.classification import Asker, Classification
from app.api.endpoint import add
from app.errors import ServiceError
from app.explanation.explainer import UNIT, Explainer, Explanation
from app.explanation.overlay import overlay_png
from app.explanation.wanted import Asked, Wanted, wanted_of
from app.http.body import read_image
from app.http.dispatcher import Application, AsgiEndpoint
from app.http.request_log import timing_of
from app.inference.answer import Prediction
from app.inference.classifier import Picture

PNG, JSON = "image/png", "application/json"


@dataclass(frozen=True)
class Explain:
    """The endpoint for explanations."""

    classification: Classification
    drawing: asyncio.Lock = field(default_factory=asyncio.Lock)  # one overlay at a time

    def add_to(self, app: Application) -> None:
        """Add the endpoint, and dispatch its requests to it."""
        classification = self.classification
        endpoint = AsgiEndpoint("/explain", self.explain, descriptions.EXPLAIN_PARAMETERS, classification.in_flight)
        router = APIRouter()
        add(
            router, endpoint.path, endpoint.described, descriptions.EXPLAIN,
            method="POST", description=self.explain.__doc__, needs_key=classification.keys.locked,
        )  # fmt: skip
        app.dispatch("POST", endpoint.path, classification.access(endpoint))
        app.include_router(router)

    async def explain(self, request: Request, model: str | None = None, **asked: Unpack[Asked]) -> Response:
        """One picture, sent as to /classify. It takes a run for each of its patches, behind all that are classified."""
        classification = self.classification
        classification.expect_key(request)
        classification.release(request)
        wanted_of(classification.asked(request, model).classifier.spec, asked)
        clients_deadline = classification.clients_deadline(request)
        with classification.reserve() as reservation:
            picture = await read_image(request, classification.body_limits, reservation)
            timing_of(request.scope).received()
            deadline = min(clients_deadline, classification.deadline())
            explainer = Explainer(classification.asked(request, model).classifier)  # which may be another one by now
            wanted = wanted_of(explainer.spec, asked)
            explanation = await explained(classification, request, explainer, picture, wanted, deadline)
            if prefers(request.headers.get("accept", ""), PNG, JSON):
                async with self.drawing:
                    pixels = await explainer.shown(picture, deadline)
                    png = await explainer.in_thread(overlay_png, pixels, explanation.values, explanation.region)
                return Response(png, headers=VARY, media_type=PNG)
        return Response(to_json(body_of(explainer, wanted, explanation)), headers=VARY, media_type=JSON)


async def explained(
    classification: Classification,
    request: Asker,
    explainer: Explainer,
    picture: Picture,
    wanted: Wanted,
    deadline: float,
) -> Explanation:
    """The explanation of a picture of a request by whatever protocol, counted, its times added to the request's.

    Raises: ServiceError.
    """
    try:
        explanation = await explainer.explain(picture, wanted, deadline)
    except ServiceError as error:
        classification.metrics.explained(wanted.method, error.code)
        raise
    classification.metrics.explained(wanted.method, "explained", explanation.runs)
    stages = timing_of(request.scope).stages
    for stage, spent_s in explanation.seconds.items():
        stages[stage] = stages.get(stage, 0.0) + spent_s
    return explanation


class Grid(TypedDict):
    """A number for each patch, in rows from the top."""

    rows: int
    columns: int
    values: list[list[float]]


class Explained(TypedDict):
    """The answer in JSON."""

    model: Mapping[str, str]
    target: Prediction
    method: str
    baseline: str
    unit: str
    runs: int
    grid: Grid
    region: Mapping[str, float]


def body_of(explainer: Explainer, wanted: Wanted, explanation: Explanation) -> Explained:
    """What a client gets of an explanation."""
    rows, columns = explanation.values.shape
    return {
        "model": explainer.named,
        "target": explanation.target,
        "method": wanted.method,
        "baseline": wanted.baseline,
        "unit": UNIT,
        "runs": explanation.runs,
        "grid": {"rows": rows, "columns": columns, "values": explanation.values.tolist()},
        "region": explanation.region._asdict(),
    }
