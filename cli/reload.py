"""`mixer reload`: ask a running service for a reload. Knows nothing of how the service does it."""

import http.client
import json
import urllib.error
import urllib.request
from typing import Annotated, Any

import typer

from app import settings
from app.errors import BadSettings, StartError
from app.serving.changes import AS_BEFORE, NOTHING, nothing_has_changed
from app.settings import Settings
from app.system import address

_KEY, _KEYS = "MIXER_ADMIN_KEY", "MIXER_ADMIN_KEYS or MIXER_ADMIN_KEYS_FILE"
_KEY_HELP = f"One of the keys in the service's {_KEYS}, not its digest; a variable is safer than an option."
_TIMEOUT_S = 660  # a little more than the service's own limit


class ReloadFailed(StartError):
    """The service refused, or did not answer."""


def reload(
    url: Annotated[
        str, typer.Option(help="The service, or its port for operators. Default: where these settings have it.")
    ] = "",
    key: Annotated[str, typer.Option(envvar=_KEY, help=_KEY_HELP)] = "",
) -> None:
    """Have a running service serve its bundles as they are on the disk now. Exit code 1 where it refuses one."""
    if not key.strip():
        raise BadSettings(f"No key for operators; expected in {_KEY} one of the keys in the service's {_KEYS}.")
    followed = _ask(url or _own_url(settings.load()), key.strip())
    for model in followed["models"]:
        typer.echo(f"{model['name']}: {model['outcome']}")
        if model["outcome"] == "swapped":
            for change in model["changes"] or [AS_BEFORE]:
                typer.echo(f"  {change}")
    if nothing_has_changed(model["outcome"] for model in followed["models"]):
        typer.echo(f"{NOTHING.capitalize()}.")
    typer.echo(f"{followed['workers']} worker(s) serve them.")


def _own_url(chosen: Settings) -> str:
    host, port = (chosen.admin_host, chosen.admin_port) if chosen.admin_port else (chosen.host, chosen.port)
    scheme = "http" if chosen.tls_cert_file is None else "https"
    return address.url(scheme, address.near(host), port)


def _ask(url: str, key: str) -> Any:
    if not url.startswith(("http://", "https://")):
        raise BadSettings(f"--url is {url!r}; expected http://HOST:PORT or https://HOST:PORT.")
    request = urllib.request.Request(  # noqa: S310 -- the scheme is one of two
        f"{url.rstrip('/')}/admin/reload", b"", {"X-API-Key": key}, method="POST"
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy may see the key
    try:
        with direct.open(request, timeout=_TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise ReloadFailed(_detail(error)) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ReloadFailed(f"{url} does not answer as this service does: {error}") from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"The answer is {error.code} {error.reason}; expected 200, or a problem that says why not."
