"""Files from a hub on this machine: cached, taken up where they broke off, checked, and asked for without telemetry."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.errors import CheckpointError
from model.hubs import download, hub, names
from model.hubs.hub import HubFile
from model.network import zoo
from tests.model.hubs.hub_server import COMMIT, HubServer, serving

ROOT = Path(__file__).parents[3]
CONTENT = (ROOT / "tests" / "vectors" / "timm_tiny.safetensors").read_bytes()
NAME = "timm:mixer_b16_224.miil_in21k"
REPOSITORY, FILE = "timm/mixer_b16_224.miil_in21k", "model.safetensors"


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower().endswith("_proxy") or name.startswith("HF_"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[HubServer]:
    with serving(CONTENT) as answering:
        yield answering


def fetch(server: HubServer, cache: Path) -> Path:
    return hub.fetch(HubFile(REPOSITORY, FILE, server.url), cache)


def test_a_file_is_downloaded_once_with_progress(server: HubServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    wanted = HubFile(REPOSITORY, FILE, server.url)
    path = hub.fetch(wanted, tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert path.parent.name == COMMIT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    asked = len(server.requests)
    assert fetch(server, tmp_path) == path
    assert len(server.requests) == asked, "what is in the cache needs no network"
    assert server.gets() == [None]


def test_a_download_that_broke_off_goes_on_from_there(server: HubServer, tmp_path: Path) -> None:
    server.break_off_after = 1000
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.gets() == [None, "bytes=1000-"]


def test_a_file_that_is_not_what_the_hub_says_is_thrown_away(server: HubServer, tmp_path: Path) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(CheckpointError, match=rf"{FILE} arrived with the sha256 .*; expected {server.digest}\. Try"):
        fetch(server, tmp_path)
    server.content = CONTENT
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_a_refusal_is_one_line_with_its_status(
    server: HubServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], status: int
) -> None:
    server.status = status
    message = rf"^{server.url}/{REPOSITORY}/.* cannot be downloaded: .*{status}"
    with pytest.raises(CheckpointError, match=message) as caught:
        fetch(server, tmp_path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert len(server.requests) == 1, "not asked again and again"


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "GatedRepo", "403, as access is granted to those who ask on its page; expected a token that may read it"),
        (401, None, "401, as for what is private or is not there; expected a token that may read it in HF_TOKEN"),
        (404, "RepoNotFound", "404, as for what is private or is not there; expected a token that may read it in HF_"),
        (404, "RevisionNotFound", f"404; expected another revision than main, which {REPOSITORY} does not have."),
        (404, "EntryNotFound", f"404; {REPOSITORY} has no {FILE}."),
        (404, None, "404; expected a repository that is there, and has the file."),
    ],
)
def test_a_refusal_says_what_it_means_and_what_to_do(
    server: HubServer, tmp_path: Path, status: int, code: str | None, words: str
) -> None:
    server.status, server.error_code = status, code
    remote = names.find(NAME, {"HF_ENDPOINT": server.url})
    assert remote is not None
    with pytest.raises(CheckpointError) as caught:
        download.fetch(remote, tmp_path)
    assert f"{FILE} cannot be downloaded: {words}" in str(caught.value)
    assert "HTTPS_PROXY" not in str(caught.value), "neither a mirror nor a proxy would help"


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9", "models.test", "ftp://models.test", "http://models.test:port"]
)
def test_a_hub_that_cannot_be_reached_is_one_line_at_once(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be downloaded: ") as caught:
        hub.fetch(HubFile(REPOSITORY, FILE, endpoint), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_one_line(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"cannot be written: .*Not a directory"):
        fetch(server, tmp_path / "file" / "cache")


def test_a_token_of_the_environment_goes_to_the_hub(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    fetch(server, tmp_path)
    told = {path.split("/")[1]: headers.get("authorization") for _, path, headers in server.requests}
    assert told == {"timm": "Bearer hf_made_up", "cdn": None}, "and to nobody else"


def test_nothing_is_told_of_what_is_installed_and_nothing_else_is_asked(server: HubServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    assert not [path for _, path, _ in server.requests if not path.endswith(f"/{REPOSITORY}/resolve/main/{FILE}")]
    assert not [headers for _, _, headers in server.requests if "torch" in headers["user-agent"]]


# --- by name ---


def test_a_name_is_read_from_the_hub_with_its_presets(server: HubServer, tmp_path: Path) -> None:
    remote = names.find(NAME, {"HF_ENDPOINT": server.url})
    assert remote is not None
    imported = zoo.read(download.fetch(remote, tmp_path), None, remote)
    assert imported.spec.source.origin == f"{server.url}/{REPOSITORY}/resolve/main/{FILE}"
    assert imported.spec.interpolation == "bilinear"
    assert imported.model.config.pixel_std == (255.0,)


def test_without_a_way_to_the_hub_a_mirror_a_proxy_and_a_file_by_hand_are_named(tmp_path: Path) -> None:
    remote = names.find(NAME, {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert remote is not None
    place = tmp_path / "timm-mixer_b16_224.miil_in21k.safetensors"
    with pytest.raises(CheckpointError) as caught:
        download.fetch(remote, tmp_path)
    assert str(caught.value).endswith(
        ". A mirror may be named in HF_ENDPOINT, a proxy in HTTPS_PROXY; or fetch the file on another machine and put "
        f"it at {place}."
    )
    place.write_bytes(CONTENT)
    assert download.fetch(remote, tmp_path) == place, "as it says"


@pytest.mark.process
def test_cache_and_offline_mode_are_the_hubs_own(server: HubServer, tmp_path: Path) -> None:
    code = f"from model.network import zoo; print(zoo.open_weights({NAME!r}).model.config.num_classes)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path), "HF_ENDPOINT": server.url}

    def run(**changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], env={**environment, **changes}, capture_output=True, text=True, check=False
        )

    refused = run(HF_HUB_OFFLINE="1")
    assert "cannot be downloaded: " in refused.stderr
    assert "offline mode is enabled" in refused.stderr
    assert server.requests == []
    server.break_off_after = 1000
    fetched = run()
    assert (fetched.returncode, fetched.stderr) == (0, "")
    assert (tmp_path / "hub" / f"models--{REPOSITORY.replace('/', '--')}").is_dir()
    asked = len(server.requests)
    assert run(HF_HUB_OFFLINE="1").returncode == 0
    assert len(server.requests) == asked


def test_what_a_killed_process_had_fetched_is_not_fetched_again(server: HubServer, tmp_path: Path) -> None:
    blob = tmp_path / f"models--{REPOSITORY.replace('/', '--')}" / "blobs" / server.digest
    blob.parent.mkdir(parents=True)
    blob.with_name(f"{server.digest}.part").write_bytes(CONTENT[:1000])
    assert fetch(server, tmp_path).resolve() == blob
    assert blob.read_bytes() == CONTENT
    assert server.gets() == ["bytes=1000-"]


def test_another_revision_is_another_file(server: HubServer, tmp_path: Path) -> None:
    hub.fetch(HubFile(REPOSITORY, FILE, server.url, "v2"), tmp_path)
    assert {path.split("/resolve/")[1] for _, path, _ in server.requests} == {f"v2/{FILE}"}


def test_the_hub_is_asked_again_where_that_is_wanted(server: HubServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    asked = len(server.requests)
    hub.fetch(HubFile(REPOSITORY, FILE, server.url), tmp_path, again=True)
    assert len(server.requests) > asked
    assert len(server.gets()) == 1, "and gives nothing twice"
