"""The folder of what is fetched and made of it, and why it cannot be written. Imports nothing that fetches."""

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

CACHE_VARIABLE = "MIXER_CACHE"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where downloads and bundles made of them are kept: $MIXER_CACHE, else $XDG_CACHE_HOME/mixer-serve.

    Without either variable it is ~/.cache/mixer-serve.
    """
    if named := environment.get(CACHE_VARIABLE):
        return Path(named)
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixer-serve"


def write_failure(folder: Path, error: OSError) -> str:
    """Why `folder` cannot be written, with the free space where that is the reason."""
    if error.errno not in _FULL:
        return f"{folder} cannot be written: {error}"
    free = shutil.disk_usage(folder).free >> 20
    return f"{folder} cannot be written: {error.strerror}, {free} MiB are free. Make room, and give the command again."
