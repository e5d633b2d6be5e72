"""POST /feedback: what a picture that is kept really shows. HTTP only."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from app.api import descriptions
from app.api.classification import Classification
from app.api.endpoint import add
from app.api.schemas import FeedbackBody, FeedbackWanted
from app.errors import BadParameter, BadRequest, Forbidden, ServiceError, UnsupportedFormat
from app.http.body import media_type_of, read_bytes
from app.http.dispatcher import Application, AsgiEndpoint

JSON = "application/json"
_MOST_BYTES = 4096


@dataclass(frozen=True)
class Feedback:
    """The endpoint for true labels."""

    classification: Classification

    def add_to(self, app: Application) -> None:
        """Add the endpoint, and dispatch its requests to it."""
        classification = self.classification
        endpoint = AsgiEndpoint("/feedback", self.feedback, (), classification.in_flight)
        router = APIRouter()
        add(
            router, endpoint.path, endpoint.described, descriptions.FEEDBACK,
            method="POST", description=self.feedback.__doc__, needs_key=classification.keys.locked,
        )  # fmt: skip
        app.dispatch("POST", endpoint.path, classification.access(endpoint))
        app.include_router(router)

    async def feedback(self, request: Request) -> Response:
        """For pictures that the service keeps (`MIXER_COLLECT_DIR`); said again, the last label holds."""
        classification = self.classification
        classification.expect_key(request)
        if classification.collection is None:
            raise Forbidden("No picture is kept here; expected MIXER_COLLECT_DIR and a rule that chooses pictures.")
        if media_type_of(request) != JSON:
            raise UnsupportedFormat(f"The content type is {media_type_of(request)!r}; expected {JSON}.")
        with classification.reserve() as reservation:
            content = await read_bytes(request, _MOST_BYTES, classification.body_limits.timeout_s, reservation)
        said = _read(content)
        corrected = await classification.collection.correct(
            said.request_id, said.index, said.label, classification.timeout_s
        )
        predicted = corrected.record.predictions[0].label
        body = FeedbackBody(
            request_id=said.request_id,
            index=said.index,
            label=said.label,
            predicted=predicted,
            right=predicted == said.label,
        )
        return Response(to_json(body), media_type=JSON)


def _read(content: bytes) -> FeedbackWanted:
    """What is said in a body. Raises BadRequest where it is no JSON, BadParameter where it is not as expected."""
    try:
        return FeedbackWanted.model_validate_json(content)
    except ValidationError as error:
        raise _refusal(error) from error


def _refusal(error: ValidationError) -> ServiceError:
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return BadRequest(f"The body is no JSON: {first['msg']}.")
    at = ".".join(map(str, first["loc"])) or "The body"
    return BadParameter(f"{at} is {str(first['input'])[:64]!r}: {first['msg']}.")
