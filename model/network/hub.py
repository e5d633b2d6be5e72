"""Public Mixer checkpoints by name: where they lie, how they are fetched, and what their pictures have to look like.

`google:imagenet1k/Mixer-B_16` is a file of the reference implementation's bucket (arXiv 2105.01601, 2106.01548,
2203.08065), `timm:mixer_b16_224.goog_in21k_ft_in1k` one of timm's on the Hugging Face hub. Downloads resume, are
checked against the server's checksum where it sends one, and are kept in a cache folder. Proxies are taken from the
usual variables. Knows nothing of tensors.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from model.errors import CheckpointError
from model.spec import Interpolation

GOOGLE_VARIABLE, HUGGING_FACE_VARIABLE = "MIXER_GOOGLE_MODELS_URL", "HF_ENDPOINT"
_GOOGLE = "https://storage.googleapis.com/mixer_models"
_HUGGING_FACE = "https://huggingface.co"
_GOOGLE_FILES = {
    "imagenet1k": ("Mixer-B_16", "Mixer-L_16"),
    "imagenet21k": ("Mixer-B_16", "Mixer-L_16"),
    "sam": ("Mixer-B_16", "Mixer-B_32"),
    "gsam": ("Mixer-B_16", "Mixer-B_32", "Mixer-S_16", "Mixer-S_32", "Mixer-S_8"),
}
_TIMM_NAMES = tuple(
    f"mixer_{size}_224.{tag}"
    for size, tags in {
        "b16": ("goog_in21k_ft_in1k", "goog_in21k", "miil_in21k_ft_in1k", "miil_in21k"),
        "l16": ("goog_in21k_ft_in1k", "goog_in21k"),
    }.items()
    for tag in tags
)
_TIMEOUT = httpx.Timeout(30)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Remote:
    """A checkpoint's address, the name of its file in the cache, and how its pictures are prepared.

    pixel_mean, pixel_std: in 0..255, for every channel alike. is_imagenet1k: its classes are those of ILSVRC 2012.
    """

    url: str
    filename: str
    pixel_mean: float = 127.5
    pixel_std: float = 127.5
    interpolation: Interpolation = "bicubic"
    is_imagenet1k: bool = False


def find(name: str, environment: Mapping[str, str] = os.environ) -> Remote | None:
    """The checkpoint called `google:...` or `timm:...`; None for anything else, which is a path.

    The environment may name mirrors: MIXER_GOOGLE_MODELS_URL, and HF_ENDPOINT as for every client of that hub.
    Raises: CheckpointError with the names there are.
    """
    origin, colon, rest = name.partition(":")
    if not colon or origin not in ("google", "timm"):
        return None
    if origin == "google":
        folder, _, model = rest.partition("/")
        known = [f"{folder}/{model}" for folder, models in _GOOGLE_FILES.items() for model in models]
        _expect_known(name, rest, known)
        base = environment.get(GOOGLE_VARIABLE, _GOOGLE).rstrip("/")
        return Remote(
            f"{base}/{rest}.npz",
            f"google-{folder}-{model}.npz",
            interpolation="bilinear",
            is_imagenet1k=folder != "imagenet21k",
        )
    _expect_known(name, rest, list(_TIMM_NAMES))
    base = environment.get(HUGGING_FACE_VARIABLE, _HUGGING_FACE).rstrip("/")
    url, filename = f"{base}/timm/{rest}/resolve/main/model.safetensors", f"timm-{rest}.safetensors"
    tuned = rest.endswith("_ft_in1k")
    if ".miil" in rest:  # trained on pixels in [0, 1], as they are
        return Remote(url, filename, pixel_mean=0.0, pixel_std=255.0, interpolation="bilinear", is_imagenet1k=tuned)
    return Remote(url, filename, is_imagenet1k=tuned)


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where downloads are kept: $XDG_CACHE_HOME/mixer-serve, else ~/.cache/mixer-serve."""
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixer-serve"


def fetch(remote: Remote, cache: Path, progress: Progress = lambda done, total: None) -> Path:
    """The checkpoint's file in the cache, downloaded unless it is there. A broken-off download is resumed.

    Raises: CheckpointError, naming the address and what went wrong: no network, an HTTP status, a connection that broke
    off, a wrong checksum (the file is then thrown away), a cache that cannot be written.
    """
    path = cache / remote.filename
    if path.exists():
        return path
    partial = path.with_name(path.name + ".part")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        checksum = _download(remote.url, partial, progress)
        _expect_checksum(remote.url, partial, checksum)
        partial.replace(path)
        _validator(partial).unlink(missing_ok=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CheckpointError(f"{remote.url} cannot be downloaded: {_reason(error)}.") from error
    except OSError as error:
        raise CheckpointError(f"{cache} cannot be written: {error}") from error
    return path


def _download(url: str, partial: Path, progress: Progress) -> tuple[str, str] | None:
    """Fill `partial`. Returns the server's checksum as (algorithm, hexadecimal digest), if it sent one."""
    with _response(url, partial) as response:
        if response.status_code == 416:  # what is there is no beginning of the file
            partial.unlink()
            return _download(url, partial, progress)
        if response.status_code not in (200, 206):
            raise CheckpointError(f"{url} answers {response.status_code} {response.reason_phrase}; expected the file.")
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
    """The answer to a request for what is missing. If-Range makes a server with another file send all of it."""
    headers = {"accept-encoding": "identity"}
    validator = _validator(partial)
    if partial.exists() and validator.exists() and (etag := validator.read_text()):
        headers |= {"range": f"bytes={partial.stat().st_size}-", "if-range": etag}
    with _client(url) as client, client.stream("GET", url, headers=headers) as response:
        yield response


def _client(url: str) -> httpx.Client:
    """With the proxies and certificates that the environment names. Raises CheckpointError where they are of no use."""
    try:
        return httpx.Client(follow_redirects=True, timeout=_TIMEOUT)
    except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{url} cannot be downloaded with the proxies and certificates of the environment: {_reason(error)}."
        ) from error


def _checksum(response: httpx.Response) -> tuple[str, str] | None:
    """Hugging Face sends a SHA-256 with its redirect, Google's storage an MD5 with the file."""
    for answer in (*response.history, response):
        linked = answer.headers.get("x-linked-etag", "").strip('"')
        if len(linked) == 64:
            return "sha256", linked
        for entry in answer.headers.get("x-goog-hash", "").split(","):
            algorithm, _, digest = entry.strip().partition("=")
            if algorithm == "md5":
                return "md5", base64.b64decode(digest).hex()
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


def _expect_known(name: str, rest: str, known: list[str]) -> None:
    if rest not in known:
        raise CheckpointError(f"{name} is not a checkpoint that is known here; expected one of {', '.join(known)}.")


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _validator(partial: Path) -> Path:
    return partial.with_name(partial.name + ".etag")
