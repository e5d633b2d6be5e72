"""What the service tells of itself and its models over gRPC: that of the protocol's dialect of HTTP, as messages.

Each answer is a dictionary as JSON has it; members that a message has not are left out of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.dialects.oip import metadata, statistics
from app.dialects.serving import Serving
from app.serving.registry import Model, UnknownModel

OPEN = ("ServerLive", "ServerReady")  # for everybody, as over HTTP


@dataclass(frozen=True)
class About:
    """The methods that only tell, by name. Each may raise UnknownModel."""

    serving: Serving

    def methods(self) -> Mapping[str, Callable[[Any], dict[str, Any]]]:
        """What each tells, of a request."""
        models, max_images = self.serving.models, self.serving.max_images
        return {
            "ServerLive": lambda request: {"live": True},
            "ServerReady": lambda request: {"ready": self.serving.health.is_ready()},
            "ModelReady": lambda request: {"ready": self._is_model_ready(request)},
            "ServerMetadata": lambda request: metadata.server(self.serving.version),
            "ModelMetadata": lambda request: metadata.model(self._asked(request)),
            "ModelConfig": lambda request: {"config": metadata.config(self._asked(request), max_images)},
            "ModelStatistics": lambda request: {
                "model_stats": [
                    self._statistics(model) for model in ([self._asked(request)] if request.name else models)
                ]
            },
            "RepositoryIndex": lambda request: {
                "models": [
                    metadata.index_entry(model) for model in models if model.failure is None or not request.ready
                ]
            },
        }

    def _is_model_ready(self, request: Any) -> bool:
        """Whether it is; one that is not there is not, and no error: clients ask for a word."""
        try:
            return self._asked(request).failure is None
        except UnknownModel:
            return False

    def _asked(self, request: Any) -> Model:
        return self.serving.models.asked(request.name or None, request.version or None)

    def _statistics(self, model: Model) -> dict[str, Any]:
        return statistics.of_model(model, self.serving.metrics, alone=self.serving.is_alone)
