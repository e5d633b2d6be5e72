"""How a client shows a key, as OpenAPI describes it. Knows nothing of keys: http/api_keys.py says who may enter."""

from typing import Any

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPBearer

_WHOSE = "for /admin and a protected /metrics, one of the operators' keys."
_SCHEMES = (
    HTTPBearer(scheme_name="bearer", description=f"Authorization: Bearer KEY; {_WHOSE}", auto_error=False),
    APIKeyHeader(name="X-API-Key", scheme_name="header", description=f"X-API-Key: KEY; {_WHOSE}", auto_error=False),
)


def either() -> list[Any]:
    """For an operation that takes a key: both schemes, either of which is enough. They only describe: none refuses."""
    return [Depends(scheme) for scheme in _SCHEMES]


def or_none(*, needed: bool) -> dict[str, Any]:
    """The part of `openapi_extra` that says whether a key is needed: where it is not, no scheme is enough, too."""
    return {} if needed else {"security": [{}]}
