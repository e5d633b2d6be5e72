"""A folder to a repository of a hub, by huggingface_hub. Knows nothing of what is in the folder.

Tokens and mirrors are huggingface_hub's own (HF_TOKEN, HF_ENDPOINT). Switched off, unless the environment says
otherwise: Xet, whose transfers go to hosts that proxies and mirrors do not know, and telemetry.
"""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import ExportError
from model.hubs.address import without_user
from model.hubs.names import ENDPOINT_VARIABLE

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_SWITCHED_OFF = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY")
_MOST_CHARACTERS = 300
_REASONS = {
    401: "the hub does not know the token (401); expected one that may write, in HF_TOKEN",
    403: "the token may not write there (403); expected one with the right to write to that name",
    404: "the hub has no such place (404); expected an organization or user, and a revision, that are there",
    409: "it was changed meanwhile, or is in use (409); try again",
}


def upload(folder: Path, repository: str, *, private: bool | None, revision: str | None, message: str) -> str:
    """Make the repository where it is missing, and put all of `folder` into it as one commit. Returns its address.

    private: None leaves that to the hub. revision: a branch, made where it is missing; None: main.
    Raises: ExportError, naming the repository and why the hub refuses, or that it cannot be reached.
    """
    for name in _SWITCHED_OFF:
        os.environ.setdefault(name, "1")  # before the import, which reads them
    import httpx2  # noqa: PLC0415
    import huggingface_hub as library  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415
    from huggingface_hub.utils.logging import set_verbosity_error  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    set_verbosity_error()  # type: ignore[no-untyped-call]  # it logs every retry, and an error here is one line
    disable_progress_bars()
    if library.get_token() is None:
        raise ExportError(f"{repository} cannot be pushed to without a token; expected one in HF_TOKEN.")
    api = library.HfApi(endpoint=os.environ.get(ENDPOINT_VARIABLE))
    try:
        with warnings.catch_warnings(action="ignore"):  # of the hub about the card's metadata
            address = api.create_repo(repository, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repository, branch=revision, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=folder, revision=revision, commit_message=message)
    except (httpx2.HTTPError, httpx2.InvalidURL, ImportError, OSError, RuntimeError, ValueError) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) else error  # it names a file, and has why as cause
        reason = _refusal(cause) if isinstance(cause, HfHubHTTPError) else _one_line(str(error)) or type(error).__name__
        raise ExportError(f"{repository} cannot be pushed to at {without_user(api.endpoint)}: {reason}.") from error
    return without_user(str(address))


def _refusal(error: "HfHubHTTPError") -> str:
    status = error.response.status_code
    known = _REASONS.get(status)
    return known or f"the hub answers {status}: {_one_line(error.server_message or str(error))}"


def _one_line(words: str) -> str:
    return " ".join(without_user(words).split())[:_MOST_CHARACTERS].rstrip(".")
