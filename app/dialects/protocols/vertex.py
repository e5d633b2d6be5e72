"""Vertex AI's contract for a container: health and predictions at paths that it chooses."""

from app.api.endpoint import Operation
from app.api.openapi import CLASSIFICATION
from app.dialects import forms
from app.dialects.descriptions import answered_as, asked_as
from app.dialects.dialect import Dialect, Route
from app.dialects.protocols import instances, ping
from app.dialects.serving import Serving

_OWN_HEALTH = ("/health/live", "/health/ready")  # which answer as they do anyway


def dialect(serving: Serving) -> Dialect:
    """The paths that are wanted, if any, for the default model."""
    predict, health = serving.predict_route, serving.health_route
    operation = Operation(
        "vertex_predict",
        "Classify pictures, as Vertex AI asks",
        CLASSIFICATION,
        answered_as(instances.ANSWER, instances.EXAMPLE, forms.ERROR),
        asked_as({instances.JSON: instances.REQUEST}),
    )
    routes = (Route(predict, operation, instances.read, instances.answer, forms.ERROR),) if predict else ()
    wanted = bool(health) and health not in _OWN_HEALTH
    return Dialect(routes, (ping.info(health, "vertex_health", serving.health),) if wanted else ())
