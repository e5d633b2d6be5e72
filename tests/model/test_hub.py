"""Downloads against a server on this machine that can resume, redirect, lie and break off."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from model import hub, zoo
from model.errors import CheckpointError

VECTORS = Path(__file__).parent.parent / "vectors"
CONTENT = (VECTORS / "google_tiny.npz").read_bytes()


class Store(ThreadingHTTPServer):
    """Serves CONTENT under every path; what it does besides is set by its attributes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.content = CONTENT
        self.etag = '"one"'
        self.headers: dict[str, str] = {}
        self.redirect_headers: dict[str, str] | None = None
        self.break_off_after: int | None = None
        self.status = 200
        self.requests: list[tuple[str, str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        store = self.server
        wanted = self.headers.get("Range")
        store.requests.append((self.path, wanted))
        if store.redirect_headers is not None and not self.path.startswith("/elsewhere"):
            self._head(302, {"Location": f"/elsewhere{self.path}", "Content-Length": "0", **store.redirect_headers})
            return
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

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def google(store: Store, name: str = "google:imagenet1k/Mixer-B_16") -> hub.Remote:
    remote = hub.find(name, {hub.GOOGLE_VARIABLE: store.url})
    assert remote is not None
    return remote


# --- names ---


def test_a_path_is_no_name() -> None:
    assert hub.find("Mixer-B_16.npz", {}) is None
    assert hub.find("C:/weights.npz", {}) is None


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("google:imagenet21k/Mixer-L_16", "https://storage.googleapis.com/mixer_models/imagenet21k/Mixer-L_16.npz"),
        ("google:sam/Mixer-B_32", "https://storage.googleapis.com/mixer_models/sam/Mixer-B_32.npz"),
        ("google:gsam/Mixer-S_8", "https://storage.googleapis.com/mixer_models/gsam/Mixer-S_8.npz"),
        (
            "timm:mixer_b16_224.goog_in21k_ft_in1k",
            "https://huggingface.co/timm/mixer_b16_224.goog_in21k_ft_in1k/resolve/main/model.safetensors",
        ),
    ],
)
def test_names_have_their_public_addresses(name: str, url: str) -> None:
    remote = hub.find(name, {})
    assert remote is not None
    assert remote.url == url
    assert (remote.pixel_mean, remote.pixel_std) == (127.5, 127.5)


def test_the_miil_weights_take_pixels_in_0_to_1_resized_bilinearly() -> None:
    remote = hub.find("timm:mixer_b16_224.miil_in21k_ft_in1k", {})
    assert remote is not None
    assert (remote.pixel_mean, remote.pixel_std, remote.interpolation) == (0.0, 255.0, "bilinear")


@pytest.mark.parametrize(
    "name", ["google:imagenet1k/Mixer-S_16", "google:", "timm:resnet50", "google:other/Mixer-B_16"]
)
def test_an_unknown_name_is_told_the_known_ones(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"is not a checkpoint that is known here; expected one of .*16"):
        hub.find(name, {})


def test_the_cache_follows_the_usual_variable() -> None:
    assert hub.cache_folder({"XDG_CACHE_HOME": "/somewhere"}) == Path("/somewhere/mixer-serve")
    assert hub.cache_folder({}) == Path.home() / ".cache" / "mixer-serve"


# --- downloads ---


def test_a_checkpoint_is_downloaded_once_with_progress(store: Store, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    remote = google(store)
    path = hub.fetch(remote, tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert hub.fetch(remote, tmp_path) == path
    assert store.requests == [("/imagenet1k/Mixer-B_16.npz", None)]
    assert [file.name for file in tmp_path.iterdir()] == ["google-imagenet1k-Mixer-B_16.npz"]


def test_a_download_that_broke_off_goes_on_from_there(store: Store, tmp_path: Path) -> None:
    store.break_off_after = 1000
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        hub.fetch(google(store), tmp_path)
    assert hub.fetch(google(store), tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in store.requests] == [None, "bytes=1000-"]


def test_another_file_on_the_server_is_fetched_from_its_start(store: Store, tmp_path: Path) -> None:
    store.break_off_after = 1000
    with pytest.raises(CheckpointError):
        hub.fetch(google(store), tmp_path)
    store.etag, store.content = '"two"', CONTENT[::-1]
    assert hub.fetch(google(store), tmp_path).read_bytes() == CONTENT[::-1]


def test_a_beginning_that_is_longer_than_the_file_is_thrown_away(store: Store, tmp_path: Path) -> None:
    partial = tmp_path / "google-imagenet1k-Mixer-B_16.npz.part"
    partial.write_bytes(CONTENT + b"more")
    hub._validator(partial).write_text(store.etag)
    assert hub.fetch(google(store), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("right", [True, False])
def test_hugging_faces_sha256_comes_with_the_redirect(store: Store, tmp_path: Path, *, right: bool) -> None:
    digest = hashlib.sha256(CONTENT if right else b"else").hexdigest()
    store.redirect_headers = {"X-Linked-Etag": f'"{digest}"'}
    remote = hub.find("timm:mixer_b16_224.miil_in21k", {hub.HUGGING_FACE_VARIABLE: store.url})
    assert remote is not None
    if right:
        assert hub.fetch(remote, tmp_path).read_bytes() == CONTENT
    else:
        with pytest.raises(CheckpointError, match=f"arrived with the sha256 .*; expected {digest}"):
            hub.fetch(remote, tmp_path)
        assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("right", [True, False])
def test_googles_md5_comes_with_the_file(store: Store, tmp_path: Path, *, right: bool) -> None:
    digest = hashlib.md5(CONTENT if right else b"else").digest()  # noqa: S324 -- it is what that server sends
    store.headers = {"x-goog-hash": f"crc32c=AAAAAA==,md5={base64.b64encode(digest).decode()}"}
    if right:
        assert hub.fetch(google(store), tmp_path).read_bytes() == CONTENT
    else:
        with pytest.raises(CheckpointError, match="arrived with the md5"):
            hub.fetch(google(store), tmp_path)


def test_a_refusal_is_told_with_its_status(store: Store, tmp_path: Path) -> None:
    store.status = 404
    with pytest.raises(CheckpointError, match=r"Mixer-B_16.npz answers 404 Not Found; expected the file"):
        hub.fetch(google(store), tmp_path)


def test_no_network_is_one_clear_error(tmp_path: Path) -> None:
    remote = hub.find("google:gsam/Mixer-S_32", {hub.GOOGLE_VARIABLE: "http://127.0.0.1:9"})
    assert remote is not None
    with pytest.raises(CheckpointError, match=r"http://127.0.0.1:9/gsam/Mixer-S_32.npz cannot be downloaded: "):
        hub.fetch(remote, tmp_path)


def test_a_cache_that_cannot_be_written_is_one_clear_error(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file.cache cannot be written"):
        hub.fetch(google(store), tmp_path / "file" / "cache")


def test_what_was_fetched_is_read_with_the_presets_of_its_name(store: Store, tmp_path: Path) -> None:
    remote = google(store, "google:sam/Mixer-B_16")
    imported = zoo.read(hub.fetch(remote, tmp_path), None, remote)
    assert imported.spec.source.origin == remote.url
    assert imported.spec.name == "google-sam-Mixer-B_16"
    assert imported.spec.interpolation == "bilinear"
    assert imported.model.config.gelu == "tanh"
