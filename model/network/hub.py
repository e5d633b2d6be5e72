"""A file from the Hugging Face hub, in the cache that every client of the hub shares.

Tokens, the cache, offline mode and mirrors are huggingface_hub's own (HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT).
A broken connection resumes where it broke, but a killed process starts the file again. Switched off, unless the
environment says otherwise: Xet, whose transfers go to hosts that proxies and mirrors do not know, and telemetry, which
adds the installed packages and the caller's platform to every request. Knows nothing of tensors.
"""

import hashlib
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from model.errors import CheckpointError

ENDPOINT_VARIABLE = "HF_ENDPOINT"
_SWITCHED_OFF = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY")
_REVISION = "main"

Progress = Callable[[int, int], None]


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
    repository: str, filename: str, endpoint: str, cache: Path | None, progress: Progress = lambda done, total: None
) -> Path:
    """The file in the cache, downloaded unless it is there. `cache`: another folder than the hub's own.

    Raises: CheckpointError, naming the address and what went wrong.
    """
    for name in _SWITCHED_OFF:
        os.environ.setdefault(name, "1")  # before the import, which reads them
    import httpx2  # noqa: PLC0415
    import huggingface_hub as library  # noqa: PLC0415
    from huggingface_hub.utils.logging import set_verbosity_error  # noqa: PLC0415

    # it logs every retry, and an error here is one line
    set_verbosity_error()  # type: ignore[no-untyped-call]
    cached = library.try_to_load_from_cache(repository, filename, cache_dir=cache, revision=_REVISION)
    if isinstance(cached, str):
        return Path(cached)
    url = library.hf_hub_url(repository, filename, revision=_REVISION, endpoint=endpoint)
    try:
        library.get_hf_file_metadata(url)  # else no network is known after 24 s
        path = library.hf_hub_download(
            repository,
            filename,
            revision=_REVISION,
            cache_dir=cache,
            endpoint=endpoint,
            tqdm_class=cast(Any, partial(_Bar, progress)),
        )
    except (httpx2.HTTPError, httpx2.InvalidURL, ImportError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{url} cannot be downloaded: {reason}") from error
    _expect_checksum(url, Path(path).resolve())
    return Path(path)


def _expect_checksum(url: str, blob: Path) -> None:
    """Check a large file, which the cache names by its SHA-256: huggingface_hub does not verify plain downloads."""
    if not re.fullmatch("[0-9a-f]{64}", blob.name):
        return
    with blob.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != blob.name:
        blob.unlink()
        raise CheckpointError(f"{url} arrived with the sha256 {found}; expected {blob.name}. Try again")
