"""What all processes together have counted of one model, or of the only one. Knows no protocol that tells of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.telemetry.instruments import Samples
from app.telemetry.metrics import Metrics

_CLASSIFIED = "classified"
_STAGES = ("decode", "queue", "infer")  # of a picture; a request has receive and respond, too


@dataclass(frozen=True)
class ModelTotals:
    """Pictures that were classified and that were not, requests of the former and their seconds by stage, and runs.

    last_run: when the last one ended, in seconds since 1970; 0 where there was none.
    """

    classified: int
    failed: int
    requests: int
    seconds: Mapping[str, float]
    runs: int
    last_run: float


def model_totals(metrics: Metrics, model: str | None) -> ModelTotals:
    """Those of the model that is served under this name beside others; None: of the only one."""
    samples = metrics.numbers()
    own = () if model is None else (model,)
    before = "mixer_" if model is None else "mixer_model_"

    def of(name: str) -> dict[tuple[str, ...], list[list[float]]]:
        found: Samples = samples.get(before + name, {})
        return {values[len(own) :]: rows for values, rows in found.items() if values[: len(own)] == own}

    images = {values[0]: round(sum(row[0] for row in rows)) for values, rows in of("images").items()}
    seconds = {values[0]: sum(row[0] for row in rows) for values, rows in of("classified_request_seconds").items()}
    if model is None:
        runs = sum(sum(row[:-1]) for rows in of("batch_size").values() for row in rows)
    else:
        runs = sum(row[0] for rows in of("runs").values() for row in rows)
    return ModelTotals(
        classified=images.get(_CLASSIFIED, 0),
        failed=sum(count for outcome, count in images.items() if outcome != _CLASSIFIED),
        seconds={stage: seconds.get(stage, 0.0) for stage in _STAGES},
        requests=round(sum(row[0] for rows in of("classified_requests").values() for row in rows)),
        runs=round(runs),
        last_run=max((row[0] for rows in of("last_run_timestamp_seconds").values() for row in rows), default=0.0),
    )
