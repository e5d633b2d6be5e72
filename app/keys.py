"""API keys: who may classify. Knows nothing of routes.

Only digests are kept. Every key is compared, in constant time, so that timing tells nothing.
"""

import hashlib
import hmac
from pathlib import Path

from app.errors import BadApiKey, BadSettings

_MIN_CHARACTERS = 16


class ApiKeys:
    """The keys that open the service; none at all leaves it open."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            if len(key) < _MIN_CHARACTERS:
                raise BadSettings(f"An API key has {len(key)} characters; expected at least {_MIN_CHARACTERS}.")
        self._digests = tuple(_digest(key) for key in keys)

    def expect_known(self, authorization: str | None, api_key: str | None) -> None:
        """Look at `Authorization: Bearer KEY`, else at `X-API-Key: KEY`. Raises BadApiKey."""
        if not self._digests:
            return
        offered = api_key
        if authorization is not None and authorization.lower().startswith("bearer "):
            offered = authorization[len("bearer ") :].strip()
        if offered is None:
            raise BadApiKey("The request has no API key; expected Authorization: Bearer KEY, or X-API-Key: KEY.")
        digest = _digest(offered)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]  # every key, whichever fits
        if not any(matches):
            raise BadApiKey("The API key is not known to this service; expected one of its configured keys.")


def read_keys(inline: str, file: Path | None) -> ApiKeys:
    """Keys from a comma-separated setting and a file with one a line. Raises BadSettings."""
    keys = inline.split(",")
    if file is not None:
        try:
            keys += file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"MIXER_API_KEYS_FILE is {file}, which cannot be read: {error}.") from error
    return ApiKeys(tuple(key.strip() for key in keys if key.strip()))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
