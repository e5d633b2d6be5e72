"""API keys: who may enter, and under which name. Knows nothing of routes.

Only digests are kept. Every key is compared, in constant time, so that timing tells nothing.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import BadApiKey, BadSettings

_MIN_CHARACTERS = 16
_KEY_BYTES = 32  # of chance in a new key
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY = re.compile(r"[!-+\--9;-~]+")  # what is visible in ASCII, except a comma and a colon
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_DIGEST_MARK = "sha256"
_COMMENT = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True)
class Key:
    """The SHA-256 of one key, and its holder's name."""

    name: str
    digest: bytes


@dataclass(frozen=True)
class KeySource:
    """Where keys are configured: a variable with commas between them, and a file with one a line.

    An entry is `KEY` or `NAME:KEY`; in place of KEY, `sha256:HEX` is the digest of one. Keys without a name are
    counted: PREFIX-1, PREFIX-2. In a file, `#` begins a comment.
    """

    variable: str
    inline: str
    file: Path | None
    prefix: str = "key"

    def read(self) -> tuple[Key, ...]:
        """Every key. Raises BadSettings, which shows none of them."""
        keys: list[Key] = []
        nameless = 0
        for where, entry in self._entries():
            key = _parse(entry, f"{self.prefix}-{nameless + 1}", where)
            nameless += not _has_name(entry)
            for other in keys:
                if other.digest == key.digest:
                    raise BadSettings(f"{where}: the key of {key.name} is that of {other.name}, too; expected another.")
            keys.append(key)
        return tuple(keys)

    def _entries(self) -> Iterator[tuple[str, str]]:
        entries = [entry.strip() for entry in self.inline.split(",")]
        if self.inline.strip() and not any(entries):
            raise BadSettings(f"{self.variable} is {self.inline!r}, which holds no key; expected one, or nothing.")
        for number, entry in enumerate(entries, 1):
            if entry:
                yield f"{self.variable}, entry {number}", entry
        if self.file is not None:
            yield from self._lines(self.file)

    def _lines(self, file: Path) -> Iterator[tuple[str, str]]:
        where = f"{self.variable}_FILE"
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"{where} is {file}, which cannot be read: {error}.") from error
        entries = [(number, _COMMENT.sub("", line).strip()) for number, line in enumerate(lines, 1)]
        if not any(entry for _, entry in entries):  # taken for "no key is asked for", it would open the service
            raise BadSettings(f"{where} is {file}, which holds no key; expected one a line.")
        for number, entry in entries:
            if entry:
                yield f"{where}, line {number}", entry


class ApiKeys:
    """The keys that open the service. `locked`: whether there are any; without, nobody is asked for one."""

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self.read_again()

    def read_again(self) -> None:
        """Take the keys as they are configured now. Raises BadSettings, and goes on with those it had."""
        self._keys = self._source.read()
        self.locked = bool(self._keys)

    def expect_known(self, authorization: str | None, api_key: str | None) -> str:
        """The name of the key in `Authorization: Bearer KEY`, else in `X-API-Key: KEY`. Raises BadApiKey."""
        offered = None if api_key is None else api_key.strip()
        scheme, *rest = (authorization or "").split(maxsplit=1) or [""]
        if scheme.lower() == "bearer":
            offered = "".join(rest).strip()
        if offered is None:
            raise BadApiKey("The request has no API key; expected Authorization: Bearer KEY, or X-API-Key: KEY.")
        digest = _digest(offered)
        names = [key.name for key in self._keys if hmac.compare_digest(digest, key.digest)]  # every key, whichever fits
        if not names:
            raise BadApiKey("The API key is not known to this service; expected one of its configured keys.")
        return names[0]


def new_key(name: str | None) -> tuple[str, str]:
    """A random key, and its line for a file of keys, which does not tell it. Raises BadSettings."""
    if name is not None and not _NAME.fullmatch(name):
        raise BadSettings(f"The name is {name!r}; expected 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'.")
    key = secrets.token_urlsafe(_KEY_BYTES)
    line = f"{_DIGEST_MARK}:{_digest(key).hex()}"
    return key, line if name is None else f"{name}:{line}"


def _has_name(entry: str) -> bool:
    first, colon, _ = entry.partition(":")
    return bool(colon) and first != _DIGEST_MARK


def _parse(entry: str, nameless: str, where: str) -> Key:
    """Nothing of the entry is repeated in an error: any part of it may be one of a key."""
    name = nameless
    if _has_name(entry):
        name, _, entry = entry.partition(":")
        if not _NAME.fullmatch(name):
            raise BadSettings(f"{where}: the name has other characters than A-Z, a-z, 0-9, '.', '_', '-', or over 64.")
    mark, colon, digest = entry.partition(":")
    if colon and mark == _DIGEST_MARK:
        if not _DIGEST.fullmatch(digest):
            raise BadSettings(f"{where}: the digest is none of SHA-256; expected 64 hexadecimal digits.")
        return Key(name, bytes.fromhex(digest))
    if len(entry) < _MIN_CHARACTERS:
        raise BadSettings(f"{where}: the key has {len(entry)} characters; expected at least {_MIN_CHARACTERS}.")
    if not _KEY.fullmatch(entry):
        raise BadSettings(f"{where}: the key has white space, ':', ',' or other than ASCII; expected none of them.")
    return Key(name, _digest(entry))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
