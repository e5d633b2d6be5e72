"""A file from the Hugging Face hub, in the cache that every client of the hub shares.

Tokens, the cache, offline mode and mirrors are huggingface_hub's own (HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT).
It begins a large file anew after a kill, and does not check it: those are fetched here, into its cache. Switched off,
unless the environment says otherwise: Xet, whose transfers go to hosts that proxies and mirrors do not know, and
telemetry, which adds the installed packages and the caller's platform to every request. Knows nothing of tensors.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from model.errors import CheckpointError
from model.hubs import transfer
from model.hubs.address import without_user
from model.hubs.transfer import Progress, Transfer, Unreachable

_SWITCHED_OFF = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY")
_SHA256 = re.compile("[0-9a-f]{64}")
_TOKEN = "a token that may read it in HF_TOKEN"  # noqa: S105 -- advice


class NoSuchFile(CheckpointError):
    """The repository is there, and has no file of that name."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. `revision`: a branch, a tag or a commit."""

    repository: str
    filename: str
    endpoint: str
    revision: str = "main"


class _Bar:
    """The part of tqdm's interface that a download uses, on a function of (done, total)."""

    def __init__(self, progress: Progress, *, total: int | None = None, initial: int = 0, **_: Any) -> None:
        self._progress, self._total, self._done = progress, total or 0, initial

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to draw."""

    def update(self, count: int) -> None:
        """Count so many bytes more."""
        self._done += count
        self._progress(self._done, self._total)


def fetch(
    wanted: HubFile, cache: Path | None, progress: Progress = lambda done, total: None, *, again: bool = False
) -> Path:
    """The file in the cache, downloaded unless it is there. `cache`: another folder than the hub's own.

    `again`: ask the hub first whether the revision is another commit by now.

    Raises: Unreachable or CheckpointError, naming the address and what went wrong.
    """
    library = _library()
    names = {"repo_id": wanted.repository, "filename": wanted.filename, "revision": wanted.revision}
    cached = library.try_to_load_from_cache(**names, cache_dir=cache)
    if isinstance(cached, str) and not again:
        return Path(cached)
    url = library.hf_hub_url(**names, endpoint=wanted.endpoint)
    import httpx2  # noqa: PLC0415

    try:
        metadata = library.get_hf_file_metadata(url)  # else no network is known after 24 s
        _fetch_large(library, wanted, url, metadata, cache, progress)
        bar = cast(Any, partial(_Bar, progress))
        return Path(library.hf_hub_download(**names, cache_dir=cache, endpoint=wanted.endpoint, tqdm_class=bar))
    except library.errors.HfHubHTTPError as error:
        raise _refusal(url, wanted, library.errors, error) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, ImportError, OSError, ValueError) as error:
        raise Unreachable(f"{without_user(url)} cannot be downloaded: {_reason(library, error)}.") from error


def _library() -> Any:
    """huggingface_hub, which is slow to import and reads the environment then."""
    for name in _SWITCHED_OFF:
        os.environ.setdefault(name, "1")
    import huggingface_hub  # noqa: PLC0415
    import huggingface_hub.errors  # noqa: PLC0415
    from huggingface_hub.utils.logging import set_verbosity_error  # noqa: PLC0415

    # it logs every retry, and an error here is one line
    cast(Callable[[], None], set_verbosity_error)()
    return huggingface_hub


def _fetch_large(
    library: Any, wanted: HubFile, url: str, metadata: Any, cache: Path | None, progress: Progress
) -> None:
    """Put a large file, which the hub names by its SHA-256, among the blobs of the cache, where it is looked for."""
    from huggingface_hub.file_download import repo_folder_name  # noqa: PLC0415

    constants = library.constants
    if not _SHA256.fullmatch(metadata.etag or ""):
        return
    if metadata.xet_file_data is not None and not constants.HF_HUB_DISABLE_XET:
        return
    folder = repo_folder_name(repo_id=wanted.repository, repo_type="model")
    blob = Path(cache or constants.HF_HUB_CACHE) / folder / "blobs" / metadata.etag
    if blob.exists():
        return
    headers = library.utils.build_hf_headers()
    transfer.fetch(Transfer(url, blob, headers, ("sha256", metadata.etag)), progress)


def _refusal(url: str, wanted: HubFile, errors: Any, error: Any) -> CheckpointError:
    """What an HTTP status means here, in one line."""
    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        why = f"{status}, as access is granted to those who ask on its page; expected {_TOKEN}"
    elif isinstance(error, errors.RevisionNotFoundError):
        why = f"{status}; expected another revision than {wanted.revision}, which {wanted.repository} does not have"
    elif isinstance(error, errors.EntryNotFoundError):
        return NoSuchFile(
            f"{without_user(url)} cannot be downloaded: {status}; {wanted.repository} has no {wanted.filename}."
        )
    elif status in (401, 403) or isinstance(error, errors.RepositoryNotFoundError):
        why = f"{status}, as for what is private or is not there; expected {_TOKEN}, and a name without a slip"
    elif status == 404:
        why = "404; expected a repository that is there, and has the file"
    else:
        return Unreachable(f"{without_user(url)} cannot be downloaded: {transfer.reason(error)}.")
    return CheckpointError(f"{without_user(url)} cannot be downloaded: {why}.")


def _reason(library: Any, error: Exception) -> str:
    if isinstance(error, library.errors.OfflineModeIsEnabled):
        return "offline mode is enabled by HF_HUB_OFFLINE, and the file is not in the cache"
    return transfer.reason(error)
