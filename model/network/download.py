"""A public checkpoint's file, downloaded into a cache folder: from the hub that has it, or by its address.

Downloads by address resume, are checked against the server's checksum where it sends one, and are kept. Proxies are
taken from the usual variables. Knows neither the names of checkpoints nor tensors.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from model.errors import CheckpointError
from model.network import hub
from model.network.names import TIMM_FILE, Remote

_TIMEOUT = httpx.Timeout(30)

Progress = Callable[[int, int], None]


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where downloads are kept: $XDG_CACHE_HOME/mixer-serve, else ~/.cache/mixer-serve."""
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixer-serve"


def fetch(remote: Remote, cache: Path | None = None, progress: Progress = lambda done, total: None) -> Path:
    """The checkpoint's file in `cache`, downloaded unless it is there. A broken-off download is resumed.

    Without a `cache`, files by address lie in cache_folder() and those of a hub in its own cache.

    Raises: CheckpointError, naming the address and what went wrong: no network, an HTTP status, a connection that broke
    off, a wrong checksum (the file is then thrown away), a cache that cannot be written.
    """
    path = (cache or cache_folder()) / remote.filename
    if path.exists():
        return path
    if remote.repository is None or remote.endpoint is None:
        return _fetch_by_address(remote, path, progress)
    try:
        return hub.fetch(remote.repository, TIMM_FILE, remote.endpoint, cache, progress)
    except CheckpointError as error:
        raise CheckpointError(f"{error}. {_otherwise(remote, path)}") from error


def _fetch_by_address(remote: Remote, path: Path, progress: Progress) -> Path:
    cache = path.parent
    partial = path.with_name(path.name + ".part")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        checksum = _download(remote, partial, progress)
        _expect_checksum(remote.url, partial, checksum)
        partial.replace(path)
        _validator(partial).unlink(missing_ok=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CheckpointError(
            f"{remote.url} cannot be downloaded: {_reason(error)}. {_otherwise(remote, path)}"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{cache} cannot be written: {error}") from error
    return path


def _download(remote: Remote, partial: Path, progress: Progress) -> tuple[str, str] | None:
    """Fill `partial`. Returns the server's checksum as (algorithm, hexadecimal digest), if it sent one."""
    with _response(remote.url, partial) as response:
        if response.status_code == 416:  # the partial file is no beginning of this one
            partial.unlink()
            return _download(remote, partial, progress)
        if response.status_code not in (200, 206):
            status = f"{response.status_code} {response.reason_phrase}".rstrip()
            path = partial.with_name(remote.filename)
            raise CheckpointError(f"{remote.url} answers {status}; expected the file. {_otherwise(remote, path)}")
        resumed = response.status_code == 206
        done = partial.stat().st_size if resumed else 0
        total = done + int(response.headers.get("content-length", 0))
        _validator(partial).write_text(response.headers.get("etag", ""))
        with partial.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
        return _checksum(response)


@contextmanager
def _response(url: str, partial: Path) -> Iterator[httpx.Response]:
    """The answer to a request for the missing bytes. If-Range makes a server with another file send all of it."""
    headers = {"accept-encoding": "identity"}
    validator = _validator(partial)
    if partial.exists() and validator.exists() and (etag := validator.read_text()):
        headers |= {"range": f"bytes={partial.stat().st_size}-", "if-range": etag}
    with _client(url) as client, client.stream("GET", url, headers=headers) as response:
        yield response


def _client(url: str) -> httpx.Client:
    """With the environment's proxies and certificates. Raises CheckpointError where they cannot be used."""
    try:
        return httpx.Client(follow_redirects=True, timeout=_TIMEOUT)
    except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{url} cannot be downloaded with the proxies and certificates of the environment: {_reason(error)}."
        ) from error


def _checksum(response: httpx.Response) -> tuple[str, str] | None:
    """Google's storage sends an MD5 with the file."""
    for entry in response.headers.get("x-goog-hash", "").split(","):
        algorithm, _, digest = entry.strip().partition("=")
        if algorithm == "md5":
            return algorithm, base64.b64decode(digest).hex()
    return None


def _expect_checksum(url: str, partial: Path, expected: tuple[str, str] | None) -> None:
    if expected is None:
        return
    algorithm, digest = expected
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != digest:
        partial.unlink()
        raise CheckpointError(f"{url} arrived with the {algorithm} {found}; expected {digest}. Try again.")


def _otherwise(remote: Remote, path: Path) -> str:
    """Advice for a machine that cannot reach the address."""
    return (
        f"A mirror may be named in {remote.mirror}, a proxy in HTTPS_PROXY; or fetch the file on another machine and "
        f"put it at {path}."
    )


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _validator(partial: Path) -> Path:
    return partial.with_name(partial.name + ".etag")
