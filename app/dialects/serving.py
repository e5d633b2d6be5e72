"""What protocols tell of the service besides answers: its models, its health, its counts. Knows no protocol."""

from dataclasses import dataclass

from app.serving.health import Health
from app.serving.registry import Models
from app.telemetry.metrics import Metrics


@dataclass(frozen=True)
class Serving:
    """The collaborators of endpoints that only tell, and the paths that a platform wants. Empty: none."""

    models: Models
    health: Health
    metrics: Metrics
    version: str
    max_images: int = 1  # in a request
    health_route: str = ""
    predict_route: str = ""
    is_shared: bool = False  # a second model answers some clients in place of the first

    @property
    def is_alone(self) -> bool:
        """Whether all that is counted is of one model."""
        return len(self.models) == 1 and not self.is_shared
