"""The MIXER_* variables as they are found: values cleaned, those that Kubernetes sets told apart, unknown ones named.

Those of platforms stand for options that have no value of their own.

Knows the names of the options, and nothing of what they mean.
"""

import logging
import os
import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic_settings import EnvSettingsSource

from app.system.spelling import nearest
from model.old_names import OLD_NAMES

# Those that other commands and the compose files read; tests/app/system/test_environment.py looks for others.
NEIGHBOURS = (
    "MIXER_ADMIN_KEY",
    "MIXER_ADMIN_KEYS_SECRET",
    "MIXER_API_KEYS_SECRET",
    "MIXER_CACHE",
    "MIXER_GOOGLE_MODELS_URL",
    "MIXER_GPU_PUBLISH",
    "MIXER_MEMORY",
    "MIXER_PUBLISH",
)
# Vertex AI's: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
_OF_PLATFORMS = {"port": "AIP_HTTP_PORT", "health_route": "AIP_HEALTH_ROUTE", "predict_route": "AIP_PREDICT_ROUTE"}
_NOT_FETCHED = "AIP_STORAGE_URI"
_AS_WRITTEN = ("tls_key_password",)  # blanks and quotes may be part of it
_QUOTES = ('"', "'")
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_LINK = re.compile(r"(tcp|udp|sctp)://\S+", re.IGNORECASE)
_LINK_NAME = re.compile(r".*_PORT(_\d+_(TCP|UDP|SCTP))?")
_LINK_PART = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR))")

log = logging.getLogger("mixer.environment")


class Variables(EnvSettingsSource):
    """Options from variables, without blanks and quotes around values; what Kubernetes set, and "", is not given."""

    def __call__(self) -> dict[str, Any]:
        """Values by the names of the options."""
        return self._given(self._found(_OF_PLATFORMS)) | self._given(self._by_old_names() | super().__call__())

    def _given(self, found: Mapping[str, Any]) -> dict[str, Any]:
        cleaned = {name: _cleaned(name, value) for name, value in found.items()}
        return {
            name: value
            for name, value in cleaned.items()
            if value != "" and not is_service_link(f"{self.env_prefix}{name}", value)
        }

    def _by_old_names(self) -> dict[str, Any]:
        return self._found({today: f"{self.env_prefix}{old}" for old, today in OLD_NAMES.items()})

    def _found(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """Values by the names of options that these variables stand for."""
        found = {name: self.env_vars.get(variable.lower()) for name, variable in variables.items()}
        return {name: found[name] for name in self.settings_cls.model_fields.keys() & found if found[name] is not None}


def is_service_link(name: str, value: object) -> bool:
    """Whether Kubernetes sets such a variable for a Service: NAME_PORT=tcp://10.0.0.1:8000, NAME_SERVICE_HOST."""
    name = name.upper()
    if _LINK_PART.fullmatch(name):
        return True
    return bool(_LINK_NAME.fullmatch(name) and isinstance(value, str) and _LINK.fullmatch(value))


def log_oddities(options: Collection[str], prefix: str, variables: Mapping[str, str] = os.environ) -> None:
    """A line for all variables that Kubernetes set, and one for each that is not read. Values are not shown."""
    known = [option.upper() for option in options]
    mine = {name: value for name, value in variables.items() if name.upper().startswith(prefix)}
    links = sorted(name for name, value in mine.items() if is_service_link(name, value))
    if links:
        log.info("not read, as Kubernetes sets them for a Service (enableServiceLinks: false): %s", ", ".join(links))
    if variables.get(_NOT_FETCHED):
        log.warning("%s is not read, and nothing is fetched; expected a folder, as %sBUNDLE", _NOT_FETCHED, prefix)
    for name in sorted(mine.keys() - set(links)):
        option = name.upper().removeprefix(prefix)
        if (today := OLD_NAMES.get(option.lower())) in options:
            log.info("%s is read, and called %s%s today", name, prefix, str(today).upper())
        elif option not in known and name.upper() not in NEIGHBOURS:
            meant = nearest(option, known)
            expected = "one that mixer serve --help lists" if meant is None else f"{prefix}{meant}"
            log.warning("%s is no option of the service, and not read; expected %s", name, expected)


def _cleaned(name: str, value: Any) -> Any:
    if not isinstance(value, str) or name in _AS_WRITTEN:
        return value
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in _QUOTES:
        value = value[1:-1].strip()
    return value
