"""SageMaker's contract for a container: POST /invocations with a picture, or with JSON. GET /ping is in ping.py."""

import csv
import io

from starlette.responses import Response

from app.api.endpoint import Operation
from app.api.openapi import CLASSIFICATION
from app.dialects import forms
from app.dialects.descriptions import answered_as, asked_as
from app.dialects.dialect import Answered, Dialect, Query, Route
from app.dialects.protocols import instances
from app.dialects.reading import Body
from app.dialects.serving import Serving
from app.inference.answer import DEFAULT_TOP_K

_CSV = "text/csv"
_INSTANCES, _INPUTS = "instances", "inputs"


def dialect(serving: Serving) -> Dialect:
    """POST /invocations, for the default model."""
    return Dialect((Route("/invocations", _operation(), _read, _answer, forms.ERROR),))


async def _read(body: Body) -> Query:
    """JSON has `instances`, or `inputs`, which may be a single one; of any other type the body is the picture."""
    if body.media_type != instances.JSON:
        return Query([await body.file()], DEFAULT_TOP_K, options=0)
    asked = await body.json()
    if _INSTANCES in asked or _INPUTS not in asked:
        return instances.query_of(body, asked, _INSTANCES)
    inputs = asked[_INPUTS]
    return instances.query_of(body, asked if isinstance(inputs, list) else {**asked, _INPUTS: [inputs]}, _INPUTS)


def _answer(answered: Answered) -> Response:
    """Predictions in JSON; where text/csv is the first that is accepted, a line LABEL,PROBABILITY for each picture."""
    accepted = answered.request.headers.get("accept", "").partition(",")[0].partition(";")[0]
    if accepted.strip().lower() != _CSV:
        return instances.answer(answered)
    lines = io.StringIO()
    best = (classified.predictions[0] for classified in answered.answers)
    csv.writer(lines, lineterminator="\n").writerows((one["label"], one["probability"]) for one in best)
    return Response(lines.getvalue(), media_type=_CSV)


def _operation() -> Operation:
    responses = answered_as(instances.ANSWER, instances.EXAMPLE, forms.ERROR)
    responses[200]["content"][_CSV] = {"schema": {"type": "string"}, "example": "pants,0.97\n"}
    inputs = {"description": "In place of instances: the same, or a single one."}
    request = {
        "type": "object",
        "examples": instances.REQUEST["examples"],
        "properties": {**instances.REQUEST["properties"], _INPUTS: inputs},
        "anyOf": [{"required": [_INSTANCES]}, {"required": [_INPUTS]}],
    }
    return Operation(
        "sagemaker",
        "Classify pictures, as SageMaker asks",
        CLASSIFICATION,
        responses,
        asked_as({"application/octet-stream": {"type": "string", "format": "binary"}, instances.JSON: request}),
    )
