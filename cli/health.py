"""`mixer health`: whether the service of this container is ready. Imports little, as it runs every few seconds.

It asks at the address of the service's settings: the variables, and the flags of a `mixer serve` that is the
container's first process.
"""

import http.client
import json
import ssl
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from app import settings
from app.errors import BadSettings
from app.settings import Settings
from app.system import address

_TIMEOUT_S = 2.0
_FIRST_PROCESS = Path("/proc/1/cmdline")
_PATH = "/health/ready"


def main(first_process: Path = _FIRST_PROCESS) -> int:
    """Print whether it is ready, or why not. Returns the exit code that a container engine expects: 0 or 1."""
    try:
        failure = failure_of(settings.load(_flags_of(first_process)))
    except BadSettings as error:
        failure = str(error)
    print(failure or "ready")  # noqa: T201 -- the engine keeps it
    return 0 if failure is None else 1


def failure_of(chosen: Settings) -> str | None:
    """Why the service with these settings is not ready; None where it is."""
    host = address.near(chosen.host)
    connection = _connection(host, chosen.port, encrypted=chosen.tls_cert_file is not None)
    try:
        connection.request("GET", _PATH)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        scheme = "http" if chosen.tls_cert_file is None else "https"
        return f"{address.url(scheme, host, chosen.port)} does not answer as this service does: {error}."
    finally:
        connection.close()
    return None if answer.status == http.client.OK else _reason(answer.status, body)


def _connection(host: str, port: int, *, encrypted: bool) -> http.client.HTTPConnection:
    """No proxy is asked. The certificate is for the name that clients know, which this address is not."""
    if not encrypted:
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)


def _reason(status: int, body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{_PATH} answers {status}; expected 200."


def _flags_of(process: Path) -> Sequence[str]:
    """The arguments after `mixer serve` in the first process's command line, perhaps behind an init; else none."""
    try:
        words = process.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\0").split("\0")
    except OSError:
        return ()
    for at, (program, command) in enumerate(pairwise(words)):
        if Path(program).name == "mixer" and command == "serve":
            return words[at + 2 :]
    return ()
