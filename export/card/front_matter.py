"""The YAML at the head of a README.md that model hubs read (Hugging Face's model card metadata).

Written as a small part of YAML: blocks of mappings and lists, strings in JSON's quotes where they need any.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from export.card.facts import CardFacts
from export.card.prose import CardProse

BUNDLE = ("onnx", "onnxruntime")  # libraries that read a bundle
_FENCE = "---\n"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WRITTEN = frozenset({"license", "library_name", "pipeline_tag", "tags", "datasets", "metrics", "model-index"})
_NOT_STRINGS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def front_matter(facts: CardFacts, prose: CardProse, kept: str = "", libraries: Sequence[str] = BUNDLE) -> str:
    """kept: lines of YAML with other keys, which stay below. libraries: that read the files, the foremost first."""
    spec = facts.spec
    fields: dict[str, Any] = {
        "license": spec.source.license.lower(),
        "library_name": libraries[0],
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "mlp-mixer", *libraries],
        "datasets": list(prose.hub_datasets),
        "metrics": ["accuracy"],
        "model-index": _model_index(facts, prose),
    }
    lines = _mapping({name: value for name, value in fields.items() if value})
    return _FENCE + "".join(f"{line}\n" for line in lines) + kept + _FENCE


def split_front_matter(text: str) -> tuple[str, str]:
    """The front matter of a README.md without its fences and without the keys that are written here, and the rest."""
    if not text.startswith(_FENCE) or (end := text.find(f"\n{_FENCE}", len(_FENCE) - 1)) < 0:
        return "", text
    blocks = re.split(r"^(?=[^\s#-])", text[len(_FENCE) : end + 1], flags=re.MULTILINE)
    kept = [block for block in blocks if block.partition(":")[0].strip("\"' ") not in _WRITTEN]
    return "".join(kept), text[end + 1 + len(_FENCE) :]


def _model_index(facts: CardFacts, prose: CardProse) -> list[dict[str, Any]]:
    by_data_set: dict[str, list[dict[str, Any]]] = {}
    for graph in facts.graphs:
        metrics = graph.spec.metrics
        if metrics is not None:
            by_data_set.setdefault(metrics.data_set, []).extend(
                {"type": "accuracy", "value": round(rate, 6), "name": f"{name}, {graph.name}"}
                for name, rate in (("top-1", metrics.top1), ("top-5", metrics.top5))
            )
    task = {"type": "image-classification", "name": "Image classification"}
    results = [
        {"task": task, "dataset": {"type": (*prose.hub_datasets, name)[0], "name": name}, "metrics": metrics}
        for name, metrics in by_data_set.items()
    ]
    return [{"name": facts.spec.name, "results": results}] if results else []


def _mapping(fields: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _mapping(value, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{name}:"
            yield from _list(value, indent)
        else:
            yield f"{indent}{name}: {_scalar(value)}"


def _list(values: list[Any], indent: str) -> Iterator[str]:
    for value in values:
        if isinstance(value, Mapping):
            first, *others = _mapping(value, indent + "  ")
            yield f"{indent}- {first.lstrip()}"
            yield from others
        else:
            yield f"{indent}- {_scalar(value)}"


def _scalar(value: str | float) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_STRINGS:
        return value
    return json.dumps(value)
