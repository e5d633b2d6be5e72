"""Parameters that tests choose, where only some of them matter."""

from dataclasses import replace
from typing import Any

from benchmarks.fleet.parameters import Parameters

_NOTHING = Parameters(
    run_s=0.0, image_s=0.0, decode_s=(0.0,), accept_s=0.0, answer_s=0.0, wake_s=0.0, refuse_s=0.0,
    client_s=0.0, together=1.0, max_batch_size=1, cpus=4, workers=1, ready_s=1.0, drain_s=0.1,
)  # fmt: skip


def costing(**values: Any) -> Parameters:
    """Nothing takes time but what is named."""
    return replace(_NOTHING, **values)


def like_a_service(**values: Any) -> Parameters:
    """Everything takes some, 200 images a second on one CPU."""
    usual = {
        "run_s": 0.001, "image_s": 0.003, "decode_s": (0.001, 0.0015), "accept_s": 0.0002,
        "answer_s": 0.0002, "wake_s": 0.00005, "refuse_s": 0.0001, "max_batch_size": 8, "cpus": 1, "run_spread": 0.05,
    }  # fmt: skip
    return costing(**{**usual, **values})
