"""A checkpoint's file, downloaded into a cache folder: from the hub that has it, or by its address.

Knows neither the names of checkpoints nor tensors.
"""

from pathlib import Path

from model.errors import CheckpointError
from model.hubs import hub
from model.hubs.cache import cache_folder
from model.hubs.names import TIMM_FILE
from model.hubs.remote import Remote
from model.hubs.transfer import Progress, Transfer, Unreachable
from model.hubs.transfer import fetch as transfer_file

CONFIG_FILE = "config.json"


def fetch(
    remote: Remote,
    cache: Path | None = None,
    progress: Progress = lambda done, total: None,
    *,
    filename: str = TIMM_FILE,
    again: bool = False,
) -> Path:
    """The checkpoint's file in `cache`, downloaded unless it is there. What broke off, or was killed, is resumed.

    Without a `cache`, files by address lie in cache_folder() and those of a hub in its own cache. `filename`: which
    one of the hub's. `again`: ask the hub whether there is a newer one.

    Raises: CheckpointError, naming the address, what went wrong, and what may help: no network, an HTTP status, a
    connection that broke off, a wrong checksum (the file is then thrown away), a cache that cannot be written.
    """
    path = (cache or cache_folder()) / remote.filename
    if filename == TIMM_FILE and path.exists():
        return path
    try:
        if remote.repository is None or remote.endpoint is None:
            transfer_file(Transfer(remote.url, path), progress)
            return path
        wanted = hub.HubFile(remote.repository, filename, remote.endpoint, remote.revision)
        return hub.fetch(wanted, cache, progress, again=again)
    except Unreachable as error:
        raise CheckpointError(f"{error} {_otherwise(remote, path)}") from error


def _otherwise(remote: Remote, path: Path) -> str:
    """Advice for a machine that cannot reach the address."""
    ways = f"A mirror may be named in {remote.mirror}, a proxy in HTTPS_PROXY; or fetch "
    if remote.has_config:
        return f"{ways}{CONFIG_FILE} and {TIMM_FILE} on another machine into a folder, and name that folder."
    return f"{ways}the file on another machine and put it at {path}."
