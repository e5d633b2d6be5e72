"""Every protocol of others that is spoken here, by the name that chooses it. Knows none of the settings."""

from collections.abc import Callable, Iterable, Mapping

from app.dialects import huggingface, openai, roboflow
from app.dialects.dialect import Dialect
from app.dialects.serving import Serving

DIALECTS: Mapping[str, Callable[[Serving], Dialect]] = {
    "huggingface": huggingface.dialect,
    "openai": openai.dialect,
    "roboflow": roboflow.dialect,
}


def chosen(names: Iterable[str], serving: Serving) -> list[Dialect]:
    """The dialects of these names, over what they tell of."""
    return [DIALECTS[name](serving) for name in names]
