"""Downloads against a server on this machine that can resume, lie, break off and stand in for a proxy."""

import base64
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from model.errors import CheckpointError
from model.network import download, names, zoo

VECTORS = Path(__file__).parents[2] / "vectors"
CONTENT = (VECTORS / "google_tiny.npz").read_bytes()


class Store(ThreadingHTTPServer):
    """Serves CONTENT under every path; what it does besides is set by its attributes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.content = CONTENT
        self.etag = '"one"'
        self.headers: dict[str, str] = {}
        self.break_off_after: int | None = None
        self.status = 200
        self.requests: list[tuple[str, str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        store = self.server
        wanted = self.headers.get("Range")
        store.requests.append((self.path, wanted))
        if store.status != 200:
            self._head(store.status, {"Content-Length": "0"})
            return
        start = 0
        if wanted is not None and self.headers.get("If-Range") == store.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(store.content):
                self._head(416, {"Content-Length": "0"})
                return
        body = store.content[start:]
        headers = {"ETag": store.etag, "Content-Length": str(len(body)), **store.headers}
        self._head(206 if start else 200, headers)
        if store.break_off_after is not None:
            body, store.break_off_after = body[: store.break_off_after], None
            self.close_connection = True
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        """What a proxy is asked for an https address; this one refuses."""
        self.server.requests.append((self.path, None))
        self._head(403, {"Content-Length": "0"})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(autouse=True)
def no_proxies_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def google(store: Store, name: str = "google:imagenet1k/Mixer-B_16") -> names.Remote:
    remote = names.find(name, {names.GOOGLE_VARIABLE: store.url})
    assert remote is not None
    return remote


def test_the_cache_follows_the_usual_variable() -> None:
    assert download.cache_folder({"XDG_CACHE_HOME": "/somewhere"}) == Path("/somewhere/mixer-serve")
    assert download.cache_folder({}) == Path.home() / ".cache" / "mixer-serve"


# --- downloads ---


def test_a_checkpoint_is_downloaded_once_with_progress(store: Store, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    remote = google(store)
    path = download.fetch(remote, tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert download.fetch(remote, tmp_path) == path
    assert store.requests == [("/imagenet1k/Mixer-B_16.npz", None)]
    assert [file.name for file in tmp_path.iterdir()] == ["google-imagenet1k-Mixer-B_16.npz"]


def test_a_download_that_broke_off_goes_on_from_there(store: Store, tmp_path: Path) -> None:
    store.break_off_after = 1000
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        download.fetch(google(store), tmp_path)
    assert download.fetch(google(store), tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in store.requests] == [None, "bytes=1000-"]


@pytest.mark.parametrize("right", [True, False])
def test_what_was_downloaded_in_pieces_is_checked_as_a_whole(store: Store, tmp_path: Path, *, right: bool) -> None:
    digest = hashlib.md5(CONTENT).digest()  # noqa: S324 -- it is what that server sends
    store.headers = {"x-goog-hash": f"md5={base64.b64encode(digest).decode()}"}
    store.content = CONTENT if right else CONTENT[::-1]
    for pieces in (1, 2):
        store.break_off_after = 1000
        with pytest.raises(CheckpointError, match="cannot be downloaded"):
            download.fetch(google(store), tmp_path)
        assert (tmp_path / f"{google(store).filename}.part").stat().st_size == 1000 * pieces
    store.content = CONTENT
    if right:
        assert download.fetch(google(store), tmp_path).read_bytes() == CONTENT
    else:
        with pytest.raises(CheckpointError, match=f"arrived with the md5 .*; expected {digest.hex()}"):
            download.fetch(google(store), tmp_path)
        assert download.fetch(google(store), tmp_path).read_bytes() == CONTENT, "from its start"
    assert [wanted for _, wanted in store.requests] == [None, "bytes=1000-", "bytes=2000-", *([] if right else [None])]


def test_another_file_on_the_server_is_fetched_from_its_start(store: Store, tmp_path: Path) -> None:
    store.break_off_after = 1000
    with pytest.raises(CheckpointError):
        download.fetch(google(store), tmp_path)
    store.etag, store.content = '"two"', CONTENT[::-1]
    assert download.fetch(google(store), tmp_path).read_bytes() == CONTENT[::-1]


def test_a_beginning_that_is_longer_than_the_file_is_thrown_away(store: Store, tmp_path: Path) -> None:
    partial = tmp_path / "google-imagenet1k-Mixer-B_16.npz.part"
    partial.write_bytes(CONTENT + b"more")
    download._validator(partial).write_text(store.etag)
    assert download.fetch(google(store), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("right", [True, False])
def test_googles_md5_comes_with_the_file(store: Store, tmp_path: Path, *, right: bool) -> None:
    digest = hashlib.md5(CONTENT if right else b"else").digest()  # noqa: S324 -- it is what that server sends
    store.headers = {"x-goog-hash": f"crc32c=AAAAAA==,md5={base64.b64encode(digest).decode()}"}
    if right:
        assert download.fetch(google(store), tmp_path).read_bytes() == CONTENT
    else:
        with pytest.raises(CheckpointError, match="arrived with the md5"):
            download.fetch(google(store), tmp_path)


def test_a_refusal_is_told_with_its_status(store: Store, tmp_path: Path) -> None:
    store.status = 404
    with pytest.raises(CheckpointError, match=r"Mixer-B_16.npz answers 404 Not Found; expected the file"):
        download.fetch(google(store), tmp_path)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:9", "[Errno "),
        ("models.test", "Request URL is missing an 'http://' or 'https://' protocol"),
        ("ftp://models.test", "Request URL has an unsupported protocol 'ftp://'"),
        ("http://models.test:port", "Invalid port: 'port'"),
    ],
    ids=["no_network", "no_protocol", "another_protocol", "no_port"],
)
def test_an_address_that_cannot_be_reached_is_one_line(tmp_path: Path, address: str, reason: str) -> None:
    remote = names.find("google:gsam/Mixer-S_32", {names.GOOGLE_VARIABLE: address})
    assert remote is not None
    with pytest.raises(CheckpointError) as caught:
        download.fetch(remote, tmp_path)
    assert str(caught.value).startswith(f"{address}/gsam/Mixer-S_32.npz cannot be downloaded: {reason}")
    assert re.fullmatch(r".*[^.]\.", str(caught.value)), "one line with one full stop"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [None, 503])
def test_without_a_way_to_the_host_a_mirror_a_proxy_and_a_file_by_hand_are_named(
    store: Store, tmp_path: Path, status: int | None
) -> None:
    store.status, mirror = status or 200, "MIXER_GOOGLE_MODELS_URL"
    remote = names.find("google:gsam/Mixer-S_32", {mirror: store.url if status else "http://127.0.0.1:9"})
    assert remote is not None
    with pytest.raises(CheckpointError) as caught:
        download.fetch(remote, tmp_path)
    place = tmp_path / remote.filename
    assert str(caught.value).endswith(
        f". A mirror may be named in {mirror}, a proxy in HTTPS_PROXY; or fetch the file on another machine and put it "
        f"at {place}."
    )
    place.write_bytes(CONTENT)
    assert download.fetch(remote, tmp_path) == place, "as it says"


def test_a_cache_that_cannot_be_written_is_one_clear_error(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file.cache cannot be written"):
        download.fetch(google(store), tmp_path / "file" / "cache")


# --- proxies and certificates of the environment ---


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_is_asked_for_the_whole_address(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, store.url)
    remote = names.find("google:gsam/Mixer-S_32", {names.GOOGLE_VARIABLE: "http://models.test"})
    assert remote is not None
    assert download.fetch(remote, tmp_path).read_bytes() == CONTENT
    assert store.requests == [("http://models.test/gsam/Mixer-S_32.npz", None)]


def test_a_proxy_is_asked_to_connect_to_an_https_address_and_may_refuse(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", store.url)
    remote = names.find("google:gsam/Mixer-S_32", {names.GOOGLE_VARIABLE: "https://models.test"})
    assert remote is not None
    with pytest.raises(CheckpointError, match=r"Mixer-S_32\.npz cannot be downloaded: 403 Forbidden\. "):
        download.fetch(remote, tmp_path)
    assert store.requests == [("models.test:443", None)]


def test_a_host_that_needs_no_proxy_is_asked_itself(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert download.fetch(google(store), tmp_path).read_bytes() == CONTENT
    assert store.requests == [("/imagenet1k/Mixer-B_16.npz", None)]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("HTTP_PROXY", "ftp://127.0.0.1:9"),
        ("HTTP_PROXY", "http://127.0.0.1:port"),
        ("SSL_CERT_FILE", "no_such_file"),
    ],
)
def test_a_proxy_or_certificate_that_cannot_be_used_is_one_line(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(CheckpointError) as caught:
        download.fetch(google(store), tmp_path)
    address = f"{store.url}/imagenet1k/Mixer-B_16.npz"
    why = "cannot be downloaded with the proxies and certificates of the environment: "
    assert str(caught.value).startswith(f"{address} {why}")
    assert "\n" not in str(caught.value)


# --- from the download to the network ---


def test_what_was_fetched_is_read_with_the_presets_of_its_name(store: Store, tmp_path: Path) -> None:
    remote = google(store, "google:sam/Mixer-B_16")
    imported = zoo.read(download.fetch(remote, tmp_path), None, remote)
    assert imported.spec.source.origin == remote.url
    assert imported.spec.name == "google-sam-Mixer-B_16"
    assert imported.spec.interpolation == "bilinear"
    assert imported.model.config.gelu == "tanh"
