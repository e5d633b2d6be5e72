"""Triton's statistics of a model, from the metrics of the whole service. Knows no transport.

Every figure is there: load generators read them without asking whether they are. As with Triton, `inference_count` is
of pictures and the other counts are of requests; `fail` counts the pictures that were not classified. The time of a
request is that of its pictures on average: they are worked on side by side. `compute_input` is decoding.
"""

from typing import Any

from app.serving.registry import Model
from app.telemetry.metrics import Metrics
from app.telemetry.model_totals import model_totals

_STAGES = {"queue": "queue", "compute_input": "decode", "compute_infer": "infer"}
_NS = 1_000_000_000


def of_model(served: Model, metrics: Metrics, *, alone: bool) -> dict[str, Any]:
    """The statistics of one model. `alone`: whether it is the only one that is served."""
    totals = model_totals(metrics, None if alone else served.name)
    requests = totals.requests
    stages = {name: _duration(requests, totals.seconds[stage]) for name, stage in _STAGES.items()}
    nothing = _duration(0, 0.0)
    return {
        "name": served.name,
        "version": served.classifier.spec.version,
        "last_inference": int(totals.last_run * 1000),
        "inference_count": totals.classified,
        "execution_count": totals.runs,
        "inference_stats": {
            "success": {"count": requests, "ns": sum(one["ns"] for one in stages.values())},
            "fail": _duration(totals.failed, 0.0),
            **stages,
            "compute_output": _duration(requests, 0.0),
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [],
        "memory_usage": [],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * _NS)}
