"""Every protocol of others that is spoken here, by the name that chooses it. Knows none of the settings."""

from collections.abc import Callable, Iterable, Mapping

from app.dialects.dialect import Dialect
from app.dialects.oip import dialect as oip
from app.dialects.protocols import huggingface, openai, ping, roboflow, sagemaker, torchserve, v1, v1_models, vertex
from app.dialects.serving import Serving

DIALECTS: Mapping[str, tuple[Callable[[Serving], Dialect], ...]] = {
    "huggingface": (huggingface.dialect,),
    "kserve": (v1.dialect, v1_models.dialect),
    "oip": (oip.dialect,),
    "openai": (openai.dialect, v1_models.dialect),
    "roboflow": (roboflow.dialect,),
    "sagemaker": (sagemaker.dialect, ping.dialect),
    "torchserve": (torchserve.dialect, ping.dialect),
    "vertex": (vertex.dialect,),
}


def chosen(names: Iterable[str], serving: Serving) -> list[Dialect]:
    """The dialects of these names, over what they tell of. What several of them have is there once."""
    parts = dict.fromkeys(part for name in names for part in DIALECTS[name])
    return [part(serving) for part in parts]
