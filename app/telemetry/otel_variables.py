"""Whether OpenTelemetry's own variables ask for traces, and what sends them then. Imports none of it where they do not.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/. An empty variable is not set.
"""

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from app.telemetry.otlp import Otlp

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTERS = ("OTEL_TRACES_EXPORTER",)
_PROTOCOL = "http/protobuf"
_EXPORTER, _NONE = "otlp", "none"
_SCHEMES = ("http", "https")
_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")

log = logging.getLogger("mixer.traces")


def opened(environment: Mapping[str, str], version: str, worker: int) -> "Otlp | None":
    """What sends the spans of this process, which is to be forked no more; None where there are none to send.

    `version`: of the service. `worker`: the first one tells in a line of the log what becomes of the spans.
    """
    if not wants_traces(environment):
        return None
    otlp, reason = None, why_not(environment)
    if reason is None:
        from app.telemetry.otlp import Otlp  # noqa: PLC0415

        try:
            otlp = Otlp(version, worker)
        except Exception as error:  # noqa: BLE001 -- of a variable that the SDK reads, which may name anyone's code
            reason = str(error) or type(error).__name__
    if worker == 0 and otlp is not None:
        log.info("traces are sent to %s", _shown(_first(environment, _ENDPOINTS)[1]))
    elif worker == 0:
        log.warning("%s; no traces are sent", reason)
    return otlp


def wants_traces(environment: Mapping[str, str]) -> bool:
    """Whether an endpoint is set, and nothing turns traces off."""
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporters = _first(environment, _EXPORTERS)[1].lower().split(",")
    return bool(_first(environment, _ENDPOINTS)[1]) and not is_disabled and _NONE not in map(str.strip, exporters)


def why_not(environment: Mapping[str, str]) -> str | None:
    """Why what is asked for cannot be done, in a line; None where it can.

    No error: these variables are often set for all programs of a cluster, and answers matter more than traces.
    """
    name, endpoint = _first(environment, _ENDPOINTS)
    if not all(map(_is_installed, _PACKAGES)):
        return (
            f"{name} is set, and OpenTelemetry cannot be imported; expected the extra otel "
            "(scripts/install cpu,otel or pip install 'mixer-serve[otel]')"
        )
    if not _is_url(endpoint):
        return f"{name} is no URL; expected one like http://collector:4318"  # what it is may hold a password
    for names, expected in ((_PROTOCOLS, _PROTOCOL), (_EXPORTERS, _EXPORTER)):
        name, value = _first(environment, names)
        if value and value.lower() != expected:
            return f"{name} is {value!r}; expected {expected}, the only one that is known here"
    return None


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    """The first variable that is set, and its value; empty where none is."""
    return next(((name, said) for name in names if (said := environment.get(name, "").strip())), (names[-1], ""))


def _is_url(endpoint: str) -> bool:
    try:
        url = urlsplit(endpoint)
        return url.scheme in _SCHEMES and bool(url.hostname) and url.port != 0
    except ValueError:  # of its host or its port
        return False


def _shown(endpoint: str) -> str:
    """Without a user and a password, and without a query, which may have a key."""
    url = urlsplit(endpoint)
    return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a package around it
        return False
