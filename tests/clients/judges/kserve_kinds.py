"""KServe's own classes of its objects, and Kubernetes' of what is inside: what they know of one, field by field."""

import json
import re
from typing import Any

import kserve.models
import kubernetes.client.models

_ROOTS = {"ClusterServingRuntime": "V1alpha1ClusterServingRuntime", "InferenceService": "V1beta1InferenceService"}
_LIST, _MAP = re.compile(r"[Ll]ist\[(.+)\]"), re.compile(r"[Dd]ict[\[(]str, (.+)[\])]")


def read_back(kind: str, text: str) -> Any:
    """The object as its class knows it: fields that are none are gone. Raises ValueError where one is missing."""
    return _read(json.loads(text), _ROOTS[kind])


def _read(value: Any, kind: str) -> Any:
    if listed := _LIST.fullmatch(kind):
        return [_read(one, listed[1]) for one in value]
    if mapped := _MAP.fullmatch(kind):
        return {name: _read(one, mapped[1]) for name, one in value.items()}
    if hasattr(kserve.models, kind):
        return _read_fields(value, getattr(kserve.models, kind))
    if hasattr(kubernetes.client.models, kind):
        known = getattr(kubernetes.client.models, kind).from_dict(value)
        return json.loads(known.model_dump_json(by_alias=True, exclude_none=True))
    return value


def _read_fields(value: dict[str, Any], of: Any) -> dict[str, Any]:
    names = {there: here for here, there in of.attribute_map.items() if there in value}
    fields = {there: _read(value[there], of.openapi_types[here]) for there, here in names.items()}
    of(**{here: fields[there] for there, here in names.items()})  # whose setters miss what is required
    return fields
