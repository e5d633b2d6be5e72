"""Object stores and other file systems behind URLs, through fsspec. Knows nothing of pictures."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, BinaryIO, Literal, cast

from cli.bulk.entries import too_many_bytes
from cli.bulk.outcomes import UNREADABLE, Failure, failure_of
from model.errors import MixerError

_IN_THIS_PROCESS = frozenset({"memory"})  # file systems that another process does not see


class SourceError(MixerError):
    """A source cannot be listed or opened, or is not what it was."""


def is_url(path: str) -> bool:
    """Whether a path has a scheme, as s3://."""
    return "://" in path


def is_of_this_process(url: str) -> bool:
    """Whether only this process can read what the URL names."""
    return url.partition("://")[0] in _IN_THIS_PROCESS


def require(module: str, why: str) -> None:
    """Raises MixerError, with what to install, where a module is missing."""
    if find_spec(module) is None:
        raise MixerError(f"{why} needs {module}; expected scripts/install cpu,bulk, or the extra mixer-serve[bulk].")


class Store:
    """The file system of one URL's scheme. Nothing is cached: listings of a million names would stay.

    Raises: MixerError where its package is missing, nobody knows the scheme, or its paths tell less than the URL: the
    host of ftp://HOST/PATH is no part of them, and pictures would be read from another.
    """

    def __init__(self, url: str) -> None:
        require("fsspec", f"Reading {url}")
        import fsspec  # noqa: PLC0415

        try:
            self._system, _ = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise MixerError(f"{url} cannot be read here: {str(error).rstrip('.')}.") from error
        except ValueError as error:
            raise MixerError(f"{url} cannot be read: {str(error).rstrip('.')}.") from error
        self._scheme = url.partition("://")[0]
        said_by = type(self._system)._get_kwargs_from_urls  # noqa: SLF001 -- fsspec's own way
        if said_by(self.url_of(url)) != said_by(url):
            raise MixerError(f"{url} cannot be read: paths of {self._scheme} do not say where; expected a copy of it.")

    def url_of(self, path: str) -> str:
        """A path of the file system as a URL."""
        plain = str(self._system._strip_protocol(path))  # noqa: SLF001 -- fsspec's own way
        return f"{self._scheme}://{plain.lstrip('/') if self._scheme in _IN_THIS_PROCESS else plain}"

    def list(self, folder: str) -> Sequence[dict[str, Any]]:
        """What is in a folder: name, size, type. Raises SourceError."""
        try:
            return cast("Sequence[dict[str, Any]]", self._system.ls(folder, detail=True))
        except Exception as error:  # each store raises its own
            raise SourceError(f"{folder} cannot be listed: {_reason(error)}.") from error

    def kind(self, path: str) -> Literal["file", "folder"] | None:
        """What is there; None: nothing. Raises SourceError."""
        try:
            found = self._system.info(path)["type"]
        except FileNotFoundError:
            return None
        except Exception as error:  # each store raises its own
            raise SourceError(f"{path} cannot be read: {_reason(error)}.") from error
        return "folder" if found == "directory" else "file"

    def open(self, path: str) -> BinaryIO:
        """A file to read from. Raises SourceError."""
        try:
            return cast(BinaryIO, self._system.open(path, "rb"))
        except Exception as error:  # each store raises its own
            raise SourceError(f"{path} cannot be read: {_reason(error)}.") from error

    def read(self, urls: Sequence[str]) -> Mapping[str, bytes | Failure]:
        """Whole files, side by side where the store can; of each its bytes, or why it has none."""
        paths = {self._system._strip_protocol(url): url for url in urls}  # noqa: SLF001 -- fsspec's own way
        found = self._system.cat_ranges(
            list(paths), None, None, on_error="return"
        )  # cat asks first whether each exists
        return {url: _payload(one) for url, one in zip(paths.values(), found, strict=True)}


class Stores:
    """One store for each scheme, opened when it is first needed. `most`: bytes that a picture may have."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._opened: dict[str, Store] = {}

    def of(self, url: str) -> Store:
        """The store of a URL. Raises MixerError."""
        scheme = url.partition("://")[0]
        if scheme not in self._opened:
            self._opened[scheme] = Store(url)
        return self._opened[scheme]

    def read(self, sizes: Mapping[str, int | None]) -> dict[str, bytes | Failure]:
        """The files at URLs, by them; what is known to be too large is not read."""
        found: dict[str, bytes | Failure] = {}
        wanted: dict[str, list[str]] = {}
        for url, size in sizes.items():
            if size is not None and size > self._most:
                found[url] = failure_of(too_many_bytes(size, self._most))
            else:
                wanted.setdefault(url.partition("://")[0], []).append(url)
        for urls in wanted.values():
            found.update(self.of(urls[0]).read(urls))
        return found


def _payload(found: object) -> bytes | Failure:
    if isinstance(found, Exception):
        return Failure(UNREADABLE, f"It cannot be read: {_reason(found)}.")
    return cast(bytes, found)


def _reason(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()).rstrip(".") or type(error).__name__
