"""One file from an address to a path: resumed after a break and after a kill, checked, and put into place whole.

Proxies and certificates are taken from the usual variables. Knows neither hubs nor names.
"""

import base64
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from model.errors import CheckpointError
from model.hubs.address import without_user
from model.hubs.cache import write_failure
from model.hubs.lock import alone_with

TRIES = 5
_TIMEOUT = httpx.Timeout(30)

Progress = Callable[[int, int], None]


class Unreachable(CheckpointError):
    """The file did not come; a mirror, a proxy or a file by hand may help."""


@dataclass(frozen=True)
class Transfer:
    """What is fetched, and to where.

    headers: sent to the address's own host. digest: algorithm and hexadecimal digest, where known beforehand; a
    beginning of the file then is one whatever the server says. partial: where the beginning lies meanwhile.
    """

    url: str
    path: Path
    headers: Mapping[str, str] = field(default_factory=dict)
    digest: tuple[str, str] | None = None

    @property
    def told(self) -> str:
        """The address, for errors."""
        return without_user(self.url)

    @property
    def partial(self) -> Path:
        """Beside the file, so that it can be renamed."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def validator(self) -> Path:
        """Has the server's ETag of what `partial` begins."""
        return self.partial.with_name(self.partial.name + ".etag")


def fetch(transfer: Transfer, progress: Progress = lambda done, total: None, tries: int = TRIES) -> None:
    """Put the file at `transfer.path`; two at once wait for each other. `tries`: as long as each brings something.

    Raises: Unreachable, naming the address and what went wrong; CheckpointError for a wrong checksum (the file is then
    thrown away), and for a disk that is full or cannot be written.
    """
    try:
        transfer.path.parent.mkdir(parents=True, exist_ok=True)
        with alone_with(transfer.partial):
            try:
                if not transfer.path.exists():  # another process may have fetched it meanwhile
                    _expect_digest(transfer, _download(transfer, progress, tries))
                    transfer.partial.replace(transfer.path)
                    transfer.validator.unlink(missing_ok=True)
            finally:
                _forget_nothing(transfer)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(f"{transfer.told} cannot be downloaded: {reason(error)}.") from error
    except OSError as error:
        raise CheckpointError(write_failure(transfer.path.parent, error)) from error


def reason(error: Exception) -> str:
    """The first line of an error, without its full stop."""
    words = without_user(str(error).strip())
    return words.splitlines()[0].rstrip(".") if words else type(error).__name__


def _download(transfer: Transfer, progress: Progress, tries: int) -> tuple[str, str] | None:
    """Fill `partial`. Returns the server's checksum as (algorithm, hexadecimal digest), if it sent one."""
    for left in reversed(range(tries)):
        before = transfer.partial.stat().st_size
        try:
            return _download_once(transfer, progress)
        except httpx.TransportError:
            if left == 0 or transfer.partial.stat().st_size <= before:
                raise
    raise AssertionError("tries is 0. This is a bug.")


def _download_once(transfer: Transfer, progress: Progress) -> tuple[str, str] | None:
    with _response(transfer) as response:
        before = transfer.partial.stat().st_size
        if before and not _goes_on(transfer, response, before):
            os.truncate(transfer.partial, 0)
            return _download_once(transfer, progress)
        if response.status_code not in ((200, 206) if before else (200,)):
            status = f"{response.status_code} {response.reason_phrase}".rstrip()
            raise Unreachable(f"{transfer.told} answers {status}; expected the file.")
        resumed = response.status_code == 206
        done = before if resumed else 0
        total = done + int(response.headers.get("content-length", 0))
        _expect_room(transfer, total - done)
        with transfer.partial.open("ab" if resumed else "wb") as file:
            transfer.validator.write_text(_etag(response))  # once no byte of another file is left
            for chunk in response.iter_raw():
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
        return _checksum(response)


def _goes_on(transfer: Transfer, response: httpx.Response, size: int) -> bool:
    """Whether an answer does not belie the `size` bytes that are there: not all servers heed If-Range, or the range."""
    if response.status_code != 206:
        return response.status_code != 416
    is_next = response.headers.get("content-range", "").startswith(f"bytes {size}-")
    return is_next and (transfer.digest is not None or _etag(response) == _known_etag(transfer))


def _etag(response: httpx.Response) -> str:
    """The server's name of the file; empty where it cannot be sent back."""
    etag: str = response.headers.get("etag", "")
    return etag if etag.isascii() else ""


def _known_etag(transfer: Transfer) -> str:
    return transfer.validator.read_text() if transfer.validator.exists() else ""


@contextmanager
def _response(transfer: Transfer) -> Iterator[httpx.Response]:
    """The answer to a request for the missing bytes. If-Range makes a server with another file send all of it."""
    headers = {**transfer.headers, "accept-encoding": "identity"}
    size = transfer.partial.stat().st_size
    etag = _known_etag(transfer)
    if size and transfer.digest is not None:
        headers |= {"range": f"bytes={size}-"}
    elif size and etag:
        headers |= {"range": f"bytes={size}-", "if-range": etag}
    with _client(transfer.url) as client, client.stream("GET", transfer.url, headers=headers) as response:
        yield response


def _client(url: str) -> httpx.Client:
    """With the environment's proxies and certificates. Raises CheckpointError where they cannot be used."""
    try:
        return httpx.Client(follow_redirects=True, timeout=_TIMEOUT)
    except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{without_user(url)} cannot be downloaded with the proxies and certificates of the environment: "
            f"{reason(error)}."
        ) from error


def _checksum(response: httpx.Response) -> tuple[str, str] | None:
    """Google's storage sends an MD5 with the file."""
    for entry in response.headers.get("x-goog-hash", "").split(","):
        algorithm, _, digest = entry.strip().partition("=")
        if algorithm == "md5":
            with suppress(ValueError):  # another server's header of that name
                return algorithm, base64.b64decode(digest, validate=True).hex()
    return None


def _expect_room(transfer: Transfer, needed: int) -> None:
    folder = transfer.path.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(
            f"{folder} has {free >> 20} MiB free; expected {needed >> 20} MiB, which {transfer.told} takes."
        )


def _expect_digest(transfer: Transfer, sent: tuple[str, str] | None) -> None:
    expected = transfer.digest or sent
    if expected is None:
        return
    algorithm, digest = expected
    with transfer.partial.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != digest:
        _forget(transfer)
        raise CheckpointError(f"{transfer.told} arrived with the {algorithm} {found}; expected {digest}. Try again.")


def _forget(transfer: Transfer) -> None:
    for path in (transfer.partial, transfer.validator):
        path.unlink(missing_ok=True)


def _forget_nothing(transfer: Transfer) -> None:
    """Remove a partial file without a byte; one with some stays, to go on from."""
    if transfer.partial.exists() and not transfer.partial.stat().st_size:
        _forget(transfer)
