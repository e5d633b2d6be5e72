"""Downloads against a server on this machine that can resume, lie, break off and stand in for a proxy."""

import base64
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.errors import CheckpointError
from model.hubs import download, names
from model.network import zoo
from tests.model.hubs.store_server import Store, serving

VECTORS = Path(__file__).parents[2] / "vectors"
CONTENT = (VECTORS / "google_tiny.npz").read_bytes()


@pytest.fixture(autouse=True)
def no_proxies_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def store() -> Iterator[Store]:
    with serving(CONTENT) as answering:
        yield answering


def google(store: Store, name: str = "google:imagenet1k/Mixer-B_16") -> names.Remote:
    remote = names.find(name, {names.GOOGLE_VARIABLE: store.url})
    assert remote is not None
    return remote


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
